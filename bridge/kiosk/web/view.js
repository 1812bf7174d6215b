// What people see. This file only draws: the arguments of render and count have everything that it needs.
import { $, icon, initial, make, put } from "./dom.js";
import { fit } from "./fit.js";
import { clock, say, saySince } from "./words.js";

const previewTime = 10_000; // ms for which our own picture is shown at the beginning of a visit
const maxEntries = 6; // other windows in the list; if there are more, the last entry says how many
const maxStrip = 4; // guests beside the main picture
const longName = 20; // letters that fit into one line of the sign on the shutter

// numbers are short codes of faults that people can read out on the phone. A code never gets another meaning.
const numbers = {
  no_camera: "K1", camera_busy: "K2", camera_denied: "K3", no_microphone: "K4", no_picture: "K5", page: "P1", program: "P2", replaced: "P3", locked: "P4",
  homeserver: "N1", hub: "N2", network_not_joined: "N3", network_removed: "N4", clock: "T1",
};

// questions are the screens on which people must choose one of two answers: the buttons of both, the button that has the focus at first, and what
// makes the question another one, if this moves the focus back there.
const questions = {
  knocked: { yes: "#letin", no: "#notnow", focus: "#letin", about: () => undefined },
  identity: { yes: "#confirm", no: "#later", focus: "#later", about: (state) => state.identity?.key },
  verify: { yes: "#same", no: "#differs", focus: "#differs", about: (state) => state.verify?.id },
};

export class View {
  #m = null;
  #screen = ""; // the one that is shown
  #asked; // what people were asked about last
  #listed = "";
  #previewTimer = 0;
  #tiles = new Map();

  constructor() {
    fit($("#own"), $("#own video"));
  }

  get screen() {
    return this.#screen;
  }

  onPress(f) {
    $("#press").addEventListener("click", f);
    $("#press").focus({ preventScroll: true });
  }

  onLanguage(f) {
    $("#language").addEventListener("click", f);
  }

  onAjar(f) {
    $("#ajar").addEventListener("click", f);
  }

  // onAnswer takes the answers to all questions: the question's screen, and whether the answer is yes.
  onAnswer(f) {
    for (const [screen, { yes, no }] of Object.entries(questions)) {
      $(yes).addEventListener("click", () => f(screen, true));
      $(no).addEventListener("click", () => f(screen, false));
    }
  }

  // asks says whether a screen asks people a question.
  asks(screen) {
    return screen in questions;
  }

  onCall(f) {
    $("#call").addEventListener("click", f);
  }

  onTalk(f) {
    $("#talk").addEventListener("click", f);
  }

  // level shows how loud the guest without a picture is, from 0 to 1.
  level(value) {
    $("#level").style.setProperty("--level", value.toFixed(2));
  }

  // calls says whether people can be rung from a screen.
  calls(screen, state) {
    return Boolean(state?.can_ring) && (screen === "alone" || screen === "ajar");
  }

  // canBeAjar says whether the window can be set ajar from a screen.
  canBeAjar(screen) {
    return screen === "shut" || screen === "alone" || screen === "ajar";
  }

  // choose moves the focus between the two answers to a question.
  choose(first) {
    const question = questions[this.#m?.screen];
    if (question) $(first ? question.yes : question.no).focus({ preventScroll: true });
  }

  // left shows how many seconds are left to answer a knock, or until ringing ends.
  left(seconds) {
    const screen = this.#m?.screen;
    if (screen === "knocked" || screen === "ringing") put($(`#${screen} .left`), say(this.#m.language, "knock_left", { n: seconds }));
  }

  // tile makes the elements of one tile.
  tile(n) {
    const figure = make("figure", "picture");
    const video = make("video");
    video.muted = video.playsInline = video.autoplay = true;
    const sound = make("audio");
    sound.autoplay = true;
    const caption = make("figcaption", "pill");
    const ground = make("canvas");
    [ground.width, ground.height] = [32, 18];
    figure.append(ground, video, sound, caption);
    $("#pictures").append(figure);
    fit(figure, video, ground);
    this.#tiles.set(n, { figure, caption });
    if (this.#m) this.#arrange(this.#m);
    return { video, audio: sound };
  }

  render(m) {
    this.#m = m;
    const root = $("#window");
    const t = (key, values) => say(m.language, key, values);
    const before = this.#screen;
    this.#screen = m.screen;
    const section = m.screen === "ajar" ? "alone" : m.screen; // both use the same section
    root.dataset.screen = section;
    root.dataset.shutter = m.shutter;
    document.documentElement.lang = m.language;
    for (const s of document.querySelectorAll("section.screen")) s.hidden = s.id !== section;
    const main = this.#mainName(m);
    const seen = m.screen === "visit" && !m.state.held;
    put($("#who"), !seen ? m.state.name : m.state.shared ? t("shares", { name: main || t("guest") }) : main);
    put($("#from"), seen ? m.state.name : "");
    document.title = m.state.name || "e-window";
    this.#signs(m, t);
    const notes = this.#notes(m, t);
    for (const list of document.querySelectorAll(".notes")) {
      if (list.dataset.shown === notes.join("\n")) continue;
      list.dataset.shown = notes.join("\n");
      list.replaceChildren(...notes.map((text) => make("p", "", text)));
    }
    this[`_${m.screen}`]?.(m, t);
    this.#arrange(m);
    this.#own(m, t);
    this.#buttons(m, t);
    this.clock();
    const question = questions[m.screen];
    const asked = question?.about(m.state);
    if (before !== m.screen || asked !== this.#asked) $(question?.focus ?? "#press").focus({ preventScroll: true });
    this.#asked = asked;
    if (m.state.name) put($("#status"), this.#announcement(m, t));
  }

  // clock shows the time where the window hangs.
  clock() {
    if (!this.#m) return;
    const { language, state } = this.#m;
    for (const e of document.querySelectorAll("time.now")) put(e, clock(language, state.timezone, Date.now()));
  }

  // count shows 3, 2, 1, or nothing for 0; progress runs from 0 to 1.
  count(number, progress) {
    put($("#count"), number ? String(number) : "");
    const root = $("#window");
    root.style.setProperty("--count", progress.toFixed(3));
    root.classList.toggle("counting", number > 0);
    if (this.#m?.screen === "opening") this._opening(this.#m, (key, values) => say(this.#m.language, key, values));
  }

  #mainName(m) {
    if (m.state.shared) return m.state.shared.name;
    const main = this.#main(m);
    return m.state.peer?.name || m.state.guests.find((g) => g.tile === main)?.name || "";
  }

  #main(m) {
    if (m.state.shared) return m.state.shared.tile;
    const peer = m.state.peer;
    if (peer) return peer.tile;
    return m.state.guests[0]?.tile ?? -1;
  }

  #signs(m, t) {
    const lamp = $("#lamp");
    const on = m.video !== null;
    lamp.dataset.on = m.state.seen && on ? "seen" : on ? "on" : "off";
    put(lamp.querySelector("span"), t(m.state.seen && on ? "seen" : on ? "unseen" : "unlit"));
    const { line } = m.state;
    $("#line").hidden = !line;
    put($("#line span"), line ? t(line === "here" ? "slow_here" : "slow_there") : "");
    lamp.querySelector("use").setAttribute("href", on ? "#i-camera" : "#i-camera-off");
    put($("#lock span"), t("encrypted"));
    $("#lock").hidden = m.screen !== "visit";
  }

  _shut(m, t) {
    put($("#sign h2"), m.state.name);
    $("#sign").classList.toggle("long", m.state.name.length > longName);
    this.#each($("#off ul"), m.languages, "camera_off");
    this.#each($("#push"), m.languages, "press_open");
    put($("#others h3"), t("windows"));
    this.#windows(m, t);
    $("#shut").classList.toggle("missed", m.state.missed.length > 0);
    const missed = m.state.missed.map((o) => saySince(m.language, m.state.timezone, "missed", o.at, { name: o.name }));
    if ($("#missed").dataset.shown !== missed.join("\n")) {
      $("#missed").dataset.shown = missed.join("\n");
      $("#missed").replaceChildren(...missed.map((text) => make("li", "pill", text)));
    }
    $("#missed").hidden = !missed.length;
    const trouble = m.fault ? `${t(`faults.${m.fault.code}.what`) || t("faults.other.what")} ${t("code", { code: number(m.fault) })}` : "";
    put($("#trouble"), trouble);
    $("#trouble").hidden = !trouble;
  }

  // #each shows a text in all languages, with lang attributes for screen readers.
  #each(list, languages, key) {
    const wanted = languages.map((l) => say(l, key)).join("\n");
    if (list.dataset.shown === wanted) return;
    list.dataset.shown = wanted;
    list.replaceChildren(...languages.map((l) => {
      const item = make("li", "", say(l, key));
      item.lang = l;
      return item;
    }));
  }

  _ajar(m, t) {
    this._alone(m, t);
  }

  _alone(m, t) {
    const ajar = m.shutter === "ajar";
    put($("#alone h2 span"), t(ajar ? "ajar_say" : "alone"));
    put($("#alone .say p"), t(ajar ? "ajar_do" : "alone_do"));
    put($("#alone .note"), m.state.ring ? t(`ring.${m.state.ring.status}`) : m.silent ? t("silent") : "");
    put($("#sill h3"), t("windows"));
    this.#windows(m, t);
  }

  #windows(m, t) {
    const order = { open: 0, ajar: 1, shut: 2 };
    const rank = (w) => (w.gone ? 4 : order[w.shutter] ?? 3);
    const list = [...m.state.windows].sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
    const key = JSON.stringify([m.language, m.state.timezone, list, m.state.missed.length > 0]);
    if (key === this.#listed) return;
    this.#listed = key;
    for (const ul of document.querySelectorAll("ul.windows")) {
      const shown = list.slice(0, list.length > maxEntries ? maxEntries - 1 : maxEntries).map((w) => {
        const shutter = w.shutter in order && !w.gone ? w.shutter : "shut";
        const item = make("li", `entry ${shutter}`);
        const text = make("span", "text");
        text.append(make("strong", "", w.name));
        if (w.city && !w.name.includes(w.city)) text.append(make("span", "city", w.city));
        const how = make("span", "how", w.gone ? saySince(m.language, m.state.timezone, "gone_since", w.gone) : w.no_picture ? t("no_picture", { name: w.name }) : t(shutter));
        const since = saySince(m.language, m.state.timezone, "since", w.since);
        if (w.since && shutter !== "shut") how.append(make("span", "since", `, ${since}`));
        text.append(how);
        item.append(icon(shutter), text);
        return item;
      });
      if (list.length > maxEntries) shown.push(make("li", "entry more", t("windows_more", { n: list.length - maxEntries + 1 })));
      if (!list.length) shown.push(make("li", "entry none", t("windows_none")));
      ul.replaceChildren(...shown);
      ul.classList.toggle("many", list.length > 4 || m.state.missed.length > 0);
    }
  }

  _visit(m, t) {
    const { held, talking, unshown, voice } = m.state;
    const names = talking.length ? talking : this.#mainName(m) || t("guest");
    const name = talking[0] ?? names;
    $("#held").hidden = !held;
    put($("#held .initial"), initial(name));
    put($("#held h2"), talking.length ? t("talking", { name: names }) : t(unshown.includes(name) ? "held_unshown" : "held", { name }));
    put($("#held .why"), talking.length ? t("talking_why") : t("held_why", { name }));
    $("#level").hidden = !talking.length;
    const focused = document.activeElement === $("#talk"); // a hidden element has no focus
    $("#talk").hidden = !held || !voice;
    put($("#talk span"), t("talk", { name: voice?.name || t("guest") }));
    if ($("#talk").hidden && focused) $("#press").focus({ preventScroll: true });
  }

  // #cards shows the guests without a picture. In the strip they come after the guests with a picture. first is the first free position.
  #cards(m, first) {
    const main = this.#main(m);
    const hidden = m.state.guests.filter((g) => g.tile < 0 || (g.tile !== main && !this.#tiles.has(g.tile)));
    const room = Math.max(maxStrip - first, 0);
    const shown = hidden.length > room ? hidden.slice(0, Math.max(room - 1, 0)) : hidden;
    const texts = shown.map((g) => g.name || say(m.language, "guest"));
    if (hidden.length > shown.length && room) texts.push(say(m.language, "more_guests", { n: hidden.length - shown.length }));
    const key = JSON.stringify([texts, first]);
    const list = $("#cards");
    if (list.dataset.shown === key) return;
    list.dataset.shown = key;
    list.replaceChildren(...texts.map((text, i) => {
      const item = make("li", "guest");
      item.style.setProperty("--position", String(first + i));
      if (i < shown.length) {
        const letter = make("p", "initial", initial(text));
        letter.setAttribute("aria-hidden", "true");
        item.append(letter);
      }
      item.append(make("strong", "", text));
      return item;
    }));
  }

  // #notes are the sentences about our silent microphone, and about those whom nobody knows, who see us unseen, who neither see nor hear us, and whose
  // pictures can't be shown.
  #notes(m, t) {
    const { stranger, withheld, renewed, unseen, unshown, allowed, more } = m.state;
    return [
      m.silent && t("silent"), stranger && t("stranger"), allowed.length && t("allowed", { names: allowed }), withheld.length && t("withheld", { names: withheld }),
      renewed.length && t("renewed", { names: renewed }), unseen.length && t("not_seen", { names: unseen }),
      unshown.length && t("unshown", { names: unshown }), more && t("more", { n: more }),
    ].filter(Boolean);
  }

  _opening(m, t) {
    const name = this.#mainName(m);
    const key = $("#window").classList.contains("counting") ? "opening" : "connecting";
    put($("#opening h2"), name ? t(key, { name }) : t(`${key}_guest`));
  }

  _ringing(m, t) {
    put($("#ringing h2"), t("ringing"));
    put($("#ringing .do"), t("ringing_do"));
    put($("#ringing .others"), m.state.ring?.declined.length ? t("ring_declined_by", { names: m.state.ring.declined }) : "");
  }

  _knocked(m, t) {
    put($("#knocked h2"), this.#knock(m, t));
    put($("#knocked .others"), m.state.knock?.others.length ? t("knock_others", { names: m.state.knock.others }) : "");
    put($("#letin span"), t("let_in"));
    put($("#notnow span"), t("not_now"));
  }

  _identity(m, t) {
    put($("#identity h2"), this.#identity(m, t));
    put($("#identity .do"), t("identity_do"));
    put($("#identity .detail"), m.state.identity?.user ?? "");
    put($("#confirm span"), t("identity_confirm"));
    put($("#later span"), t("not_now"));
  }

  _verify(m, t) {
    const { name, symbols, names } = m.state.verify ?? { name: "", symbols: [], names: [] };
    put($("#verify h2"), t("verify", { name }));
    put($("#verify .do"), t("verify_do"));
    const list = $("#verify .emoji");
    const shown = [m.language, ...symbols].join("\n");
    if (list.dataset.shown !== shown) {
      list.dataset.shown = shown;
      list.replaceChildren(...symbols.map((symbol, i) => {
        const item = make("li");
        item.append(make("span", "", symbol), t(`emoji.${names[i]}`) || (names[i] ?? ""));
        return item;
      }));
    }
    put($("#same span"), t("verify_same"));
    put($("#differs span"), t("verify_differs"));
  }

  #identity(m, t) {
    return m.state.identity ? t(m.state.identity.guest ? "identity_guest" : "identity_window", { name: m.state.identity.name }) : "";
  }

  #knock(m, t) {
    return m.state.knock ? t(m.state.knock.guest ? "knocks_guest" : "knocks", { name: m.state.knock.name }) : "";
  }

  _lost(m, t) {
    const name = this.#mainName(m);
    put($("#lost h2"), name ? t("lost_name", { name }) : t("lost"));
    put($("#lost .since"), m.state.since ? saySince(m.language, m.state.timezone, "lost_since", m.state.since) : "");
    put($("#lost .note"), t(m.state.trials ? "lost_trials" : "lost_note"));
  }

  _fault(m, t) {
    const { code, since, detail } = m.fault ?? { code: "other", since: 0, detail: "" };
    put($("#fault h2"), t(`faults.${code}.what`) || t("faults.other.what"));
    put($("#fault .do"), t(`faults.${code}.do`) || t("faults.other.do"));
    put($("#fault .detail"), detail);
    put($("#fault .number"), t("code", { code: number({ code }) }));
    put($("#fault .code .since"), since ? saySince(m.language, m.state.timezone, "since", since) : "");
  }

  // #arrange gives each tile its role: the big picture, a guest in the strip, or none.
  #arrange(m) {
    const main = this.#main(m);
    let strip = 0;
    for (const [n, { figure, caption }] of this.#tiles) {
      const guest = m.state.guests.find((g) => g.tile === n) ?? (m.state.peer?.tile === n ? m.state.peer : null);
      const role = m.screen !== "visit" ? "none" : n === main ? "main" : guest ? "guest" : "none";
      figure.dataset.role = role;
      figure.classList.toggle("whole", m.state.shared?.tile === n); // a shared screen must not be cropped
      put(caption, role === "guest" ? guest.name || say(m.language, "guest") : "");
      if (role === "guest") figure.style.setProperty("--position", String(strip++));
    }
    this.#cards(m, strip);
    $("#window").classList.toggle("guests", strip > 0);
  }

  // #own shows our own picture while nobody is there, and at the beginning of a visit.
  #own(m, t) {
    const own = $("#own");
    const video = own.querySelector("video");
    const left = m.visitAt + previewTime - Date.now();
    const show = m.video && (m.screen === "alone" || m.screen === "ajar" || m.screen === "ringing" || m.state.held || (m.screen === "visit" && left > 0));
    clearTimeout(this.#previewTimer);
    if (show && m.screen === "visit") this.#previewTimer = setTimeout(() => this.#own(this.#m, t), left + 20);
    if (!m.video) video.srcObject = null;
    else if (video.srcObject?.getVideoTracks()[0] !== m.video) {
      video.srcObject = new MediaStream([m.video]);
      video.play().catch(() => {});
    }
    own.dataset.show = show ? "yes" : "no";
    own.classList.toggle("mirror", !m.standIn);
    put(own.querySelector("figcaption"), t(m.state.talking.length ? "unseen" : m.screen === "visit" && !m.state.held ? "visit_own" : "alone_own"));
  }

  #buttons(m, t) {
    const opens = m.shutter === "shut";
    const text = t(m.replaced ? "press_here" : opens ? "press_open" : "press_shut");
    $("#press").setAttribute("aria-label", text);
    put($("#hint"), text);
    $("#press").hidden = this.asks(m.screen); // people must choose an answer
    const call = $("#call");
    call.hidden = m.down || !(m.screen === "ringing" || this.calls(m.screen, m.state));
    call.querySelector("use").setAttribute("href", m.screen === "ringing" ? "#i-shut" : "#i-bell");
    put(call.querySelector("span"), t(m.screen === "ringing" ? "cancel" : "ring_people"));
    const ajar = $("#ajar");
    ajar.hidden = !this.canBeAjar(m.screen) || m.down;
    ajar.setAttribute("aria-label", t(m.shutter === "ajar" ? "open_wide" : "set_ajar"));
    ajar.querySelector("use").setAttribute("href", m.shutter === "ajar" ? "#i-open" : "#i-ajar");
    put(ajar.querySelector("span"), opens ? m.languages.map((l) => say(l, "set_ajar")).join(" · ") : t(m.shutter === "ajar" ? "open_wide" : "set_ajar"));
    const button = $("#language");
    button.hidden = m.screen === "shut" || m.languages.length < 2;
    button.setAttribute("aria-label", t("change_language"));
    const shown = m.languages.map((l) => (l === m.language ? l.toUpperCase() : l));
    if (button.dataset.shown !== shown.join()) {
      button.dataset.shown = shown.join();
      button.replaceChildren(...m.languages.map((l) => make(l === m.language ? "b" : "span", "", l)));
    }
  }

  #announcement(m, t) {
    const name = this.#mainName(m);
    const notes = this.#notes(m, t).join(" ");
    switch (m.screen) {
      case "shut":
        return `${m.state.name}: ${t("shut")}. ${t("camera_off")}.`;
      case "alone":
        return `${$("#alone .note").textContent} ${t("alone")} ${t("alone_do")}`.trim();
      case "ajar":
        return `${$("#alone .note").textContent} ${t("ajar_say")} ${t("ajar_do")}`.trim();
      case "ringing":
        return `${t("ringing")} ${t("ringing_do")} ${$("#ringing .others").textContent} ${notes}`.trim();
      case "knocked":
        return `${this.#knock(m, t)}. ${$("#knocked .others").textContent} ${t("knock_which")}`;
      case "verify":
        return `${$("#verify h2").textContent}. ${t("verify_do")} ${(m.state.verify?.names ?? []).map((n) => t(`emoji.${n}`) || n).join(", ")}`;
      case "identity":
        return `${this.#identity(m, t)}. ${t("identity_do")}`;
      case "opening":
        return `${name ? t("opening", { name }) : t("opening_guest")}. ${notes}`.trim();
      case "visit":
        if (m.state.held) return `${$("#held h2").textContent}. ${$("#held .why").textContent} ${$("#talk").hidden ? "" : `${$("#talk span").textContent}: T.`} ${notes}`.trim();
        return `${t(m.state.shared ? "shares" : "visit", { name: name || t("guest") })}. ${t("encrypted")}. ${notes}`.trim();
      case "lost":
        return `${$("#lost h2").textContent}. ${$("#lost .note").textContent} ${notes}`.trim();
      default:
        return `${$("#fault h2").textContent} ${$("#fault .do").textContent} ${$("#fault .detail").textContent}`;
    }
  }
}

function number(fault) {
  return numbers[fault.code] ?? "X1";
}
