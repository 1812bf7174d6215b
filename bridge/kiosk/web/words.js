// The page's texts. There is one file for each language, and all have the same keys.

const known = ["de", "en", "it"];
const all = {};

// load fetches all languages, because the shut screen shows all of them.
export async function load() {
  await Promise.all(known.map(async (code) => {
    const answer = await fetch(`/lang/${code}.json`);
    if (!answer.ok) throw new Error(`language ${code}: ${answer.status}`);
    all[code] = await answer.json();
  }));
}

// usable are those of the window's languages that the page has. If it has none of them, all of the page's languages are usable.
export function usable(codes) {
  const list = (codes ?? []).filter((c) => known.includes(c));
  return list.length ? list : known;
}

// The letters of scripts that are written from right to left. Such a name would turn round the order of the words beside it.
const rightToLeft = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;

// isolate puts such a name between the characters that keep its direction to itself (FSI and PDI, as <bdi> does).
function isolate(name) {
  return rightToLeft.test(name) ? `\u2068${name}\u2069` : name;
}

// say returns the text of a key ("a.b" for a nested key), with its {names} filled in. A list becomes its parts with commas between them.
export function say(language, key, values = {}) {
  let text = all[language];
  for (const part of key.split(".")) text = text?.[part];
  if (typeof text !== "string") return "";
  return text.replace(/\{(\w+)\}/g, (_, name) => [values[name] ?? ""].flat().map((value) => isolate(String(value))).join(", "));
}

// clock formats a moment (Unix milliseconds) as hours and minutes in a time zone.
export function clock(language, timezone, ms) {
  return format(language, timezone, ms, { hour: "2-digit", minute: "2-digit" });
}

// saySince is say for a text with a {time}. A moment that was more than a day ago is named by its day, and its text has "_day" after its key.
export function saySince(language, timezone, key, ms, values = {}) {
  if (Date.now() - ms <= 86_400_000) return say(language, key, { ...values, time: clock(language, timezone, ms) });
  return say(language, `${key}_day`, { ...values, time: format(language, timezone, ms, { day: "numeric", month: "numeric" }) });
}

function format(language, timezone, ms, options) {
  try {
    return new Intl.DateTimeFormat(say(language, "locale"), { ...options, timeZone: timezone || undefined }).format(ms);
  } catch {
    return new Intl.DateTimeFormat("en-GB", options).format(ms); // this browser does not know the time zone
  }
}
