// Small helpers for the elements of the page.

export const $ = (selector) => document.querySelector(selector);

// put sets a text. Screen readers hear only texts that change.
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

// initial is the first character of a name, even if that takes two UTF-16 code units.
export function initial(name) {
  return [...name][0]?.toUpperCase() ?? "";
}
