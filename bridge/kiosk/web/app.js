// The page: it brings together what the program says and what people press.
import { Camera } from "./camera.js";
import { Connection } from "./connection.js";
import { expose } from "./debug.js";
import { Media } from "./media.js";
import * as sound from "./sound.js";
import { View } from "./view.js";
import * as words from "./words.js";

const gone = 1500; // ms without the program before the screen says so
const bounce = 250; // ms after a press in which another press is taken for a bouncing contact
const granted = 4000; // ms in which the program must open the window after a press, or send a new page its first message
const reloadPause = 30_000; // ms between two reloads because of another version
const askGuard = 600; // ms after a question has appeared in which a press was meant for something else
const knockAgain = 20_000; // ms between two sounds for somebody who still knocks
const ringEvery = 4000; // ms
const guard = "ewindow.reloaded";
const memory = "ewindow.shutter";

// local is what only this page knows.
const local = {
  wanted: null, // "open", "ajar" or "shut" from a press until the program agrees
  wantedAt: -Infinity, // performance.now() at that press; the first press never bounces, however soon after the page was loaded it comes
  early: null, // {to, at}: a press that came before the program's first message
  down: true, // the program has been away for longer than a moment
  replaced: false,
  locked: false, // the program did not let this page in
  language: null, // null: the first one
  countUntil: 0, // performance.now() at the end of the countdown
  countTotal: 0,
  visitAt: 0,
  askedAt: 0, // performance.now() when the present question appeared
  knockTimer: 0,
  ringTimer: 0,
};
let state = null;
let version = null;
let goneTimer = 0;
let lastTick = 0;

const view = new View();
const program = new Connection({
  hello: remembered,
  up: () => { local.locked = false; },
  down: () => {
    goneTimer ||= setTimeout(() => { local.down = true; update(); }, gone);
  },
  locked: () => {
    local.locked = true;
    update();
  },
  replaced: () => {
    local.replaced = true;
    media.close();
    update();
  },
  stale: reload,
  message: receive,
});
const media = new Media({
  picture: (tile, playing, frames) => program.send({ type: "picture", tile, playing, frames }),
  failed: (err) => console.error("media", err.name),
}, (tile) => view.tile(tile));
const camera = new Camera({
  changed: () => update(),
  report: (to, code) => program.send({ type: "camera", state: to, ...(code && { code }) }),
  name: () => state?.name ?? "",
  text: () => {
    const l = language();
    const time = new Date().toLocaleTimeString(words.say(l, "locale"), zone());
    return [words.say(l, "test_card"), state?.name ?? "", words.say(l, "test_card_say"), time];
  },
});

function zone() {
  try {
    new Intl.DateTimeFormat("en", { timeZone: state?.timezone || undefined });
    return { timeZone: state?.timezone || undefined };
  } catch {
    return {};
  }
}

function remembered() {
  const last = sessionStorage.getItem(memory);
  return last === "open" || last === "ajar" ? last : "shut";
}

function remember(shutter) {
  sessionStorage.setItem(memory, shutter);
}

function reload() {
  const last = Number(sessionStorage.getItem(guard));
  if (Date.now() - last < reloadPause) return; // otherwise the page might reload for ever
  sessionStorage.setItem(guard, String(Date.now()));
  location.reload();
}

function receive(m) {
  switch (m.type) {
    case "state":
      take(m);
      break;
    case "offer":
      answer(m);
      break;
    case "bitrate":
      media.limit(m.bps, m.small);
      break;
  }
}

function take(m) {
  version ??= m.page;
  if (m.page !== version) reload();
  clearTimeout(goneTimer);
  goneTimer = 0;
  const first = local.down || !state;
  local.down = false;
  if (m.shutter === local.wanted) local.wanted = null;
  if (first) {
    if (local.wanted === "shut") program.send({ type: "shutter", to: "shut" }); // pressed while the program was away
    camera.repeat();
  }
  local.countTotal = m.count_ms > 0 ? Math.max(m.screen === state?.screen ? local.countTotal : 0, m.count_ms) : 0;
  local.countUntil = m.count_ms > 0 ? performance.now() + m.count_ms : 0;
  const before = state;
  state = m;
  remember(shutter());
  const { early } = local;
  local.early = null;
  if (early && performance.now() - early.at < granted && shutter() === "shut") open(early.to);
  if ((m.screen === "ringing") !== (before?.screen === "ringing")) newRinging();
  if (m.knock?.id !== before?.knock?.id) newKnock();
  if (m.voice && m.voice.user !== before?.voice?.user) guardQuestion();
  if (m.identity?.key !== before?.identity?.key || m.verify?.id !== before?.verify?.id) guardQuestion();
  if (before && m.guests.length > before.guests.length && m.screen === "visit") sound.arrived(hour());
  update();
}

// newKnock starts the sound of a knock that has appeared, and stops that of the last one.
function newKnock() {
  clearInterval(local.knockTimer);
  if (!state.knock) return;
  guardQuestion();
  const heard = () => { if (screen() === "knocked") sound.knocked(hour()); };
  heard();
  local.knockTimer = setInterval(heard, knockAgain);
}

// newRinging starts or stops the sound of ringing.
function newRinging() {
  clearInterval(local.ringTimer);
  if (state.screen !== "ringing") return;
  const heard = () => { if (screen() === "ringing") sound.ringing(hour()); };
  heard();
  local.ringTimer = setInterval(heard, ringEvery);
}

// call starts or stops ringing the window's people.
function call() {
  if (screen() === "ringing") program.send({ type: "ring", to: "cancel" });
  else if (view.calls(screen(), state)) program.send({ type: "ring", to: "start" });
}

// guardQuestion notes when people can first see a question. Presses shortly after that are not meant for it.
function guardQuestion() {
  local.askedAt = Infinity;
  requestAnimationFrame(() => requestAnimationFrame(() => { local.askedAt = performance.now(); }));
}

// replies are what the program is told when people have answered a question. The argument is whether they said yes.
const replies = {
  knocked: (yes) => ({ type: "knock", id: state.knock.id, let_in: yes }),
  identity: (yes) => ({ type: "identity", user: state.identity.user, key: state.identity.key, confirmed: yes }),
  verify: (yes) => ({ type: "verify", id: state.verify.id, same: yes }),
};

// reply answers the question that a screen asks.
function reply(asked, yes) {
  sound.audio();
  media.play();
  if (screen() !== asked || !(performance.now() - local.askedAt >= askGuard)) return;
  program.send(replies[asked](yes));
}

// talk lets the guest talk whom the page asks about.
function talk() {
  sound.audio();
  media.play();
  if (!state?.voice || screen() !== "visit" || !(performance.now() - local.askedAt >= askGuard)) return;
  program.send({ type: "talk", user: state.voice.user });
}

async function answer(m) {
  const sdp = await media.answer(m.sdp);
  if (sdp) program.send({ type: "answer", id: m.id, sdp });
}

// shutter is the position that people see. Their last press has an effect at once, before the program agrees.
function shutter() {
  return local.wanted ?? state?.shutter ?? "shut";
}

function screen() {
  if (local.replaced) return "fault";
  if (!state) return local.locked ? "fault" : "shut";
  if (shutter() === "shut") return local.wanted === "shut" && state.shutter !== "shut" ? "shut" : state.screen;
  if (local.down) return "fault";
  return state.screen;
}

function fault() {
  if (local.replaced) return { code: "replaced", since: 0, detail: "" };
  if (local.locked) return { code: "locked", since: 0, detail: "" };
  if (local.down && state) return { code: "program", since: 0, detail: "" };
  return state?.fault ?? null;
}

function language() {
  const usable = words.usable(state?.languages);
  return usable.includes(local.language) ? local.language : usable[0];
}

function hour() {
  const text = new Date().toLocaleTimeString("en-GB", { hour: "2-digit", ...zone() });
  return Number(text.slice(0, 2));
}

// press is what the one big button does.
function press() {
  sound.audio();
  media.play();
  if (local.replaced) {
    local.replaced = false;
    program.connect();
    update();
    return;
  }
  if (screen() === "knocked") {
    reply("knocked", true);
  } else if (shutter() === "shut") {
    open("open");
  } else if (performance.now() - local.wantedAt >= bounce) {
    shut();
  }
}

// setAjar sets the window ajar, or opens it fully when it is ajar already.
function setAjar(to = shutter() === "ajar" ? "open" : "ajar") {
  if (to === shutter() || !view.canBeAjar(screen()) || performance.now() - local.wantedAt < bounce) return;
  sound.audio();
  media.play();
  open(to);
}

// open moves the shutter up, to "open" or "ajar".
function open(to) {
  if (!program.up || !state) { // a press now must not open the window minutes later, when perhaps nobody is there
    if (!state) local.early = { to, at: performance.now() };
    local.down = true;
    update();
    return;
  }
  local.wanted = to;
  local.wantedAt = performance.now();
  program.send({ type: "shutter", to });
  sound.opened(hour());
  setTimeout(() => {
    if (local.wanted === to && performance.now() - local.wantedAt >= granted) {
      local.wanted = null;
      update();
    }
  }, granted + 50);
  update();
}

// shut stops camera and microphone, and tells the program after that.
function shut() {
  local.early = null;
  if (shutter() === "shut") return;
  local.wanted = "shut";
  media.send(null, null);
  camera.stop();
  media.hear(false);
  remember("shut");
  program.send({ type: "shutter", to: "shut" });
  sound.closed(hour());
  local.language = null; // the next people may speak another language
  update();
}

function nextLanguage() {
  const usable = words.usable(state?.languages);
  local.language = usable[(usable.indexOf(language()) + 1) % usable.length];
  update();
}

// update brings camera, media and screen to the present state. It changes only what differs.
function update() {
  const open = shutter() !== "shut" && !local.replaced && !local.down && state !== null;
  camera.want(open && state.camera, Boolean(state?.test_pattern));
  const send = open && state.send && camera.video;
  media.send(send ? camera.audio : null, send ? camera.video : null);
  const shown = screen();
  if (view.asks(shown) && view.screen !== shown) guardQuestion(); // also one that is shown again after a fault
  const talking = state?.held && state.talking.length > 0; // the only sound without a picture: people at the window have let somebody talk
  media.hear(shown === "visit" && (!state.held || talking));
  media.onLevel = shown === "visit" && talking ? (level) => view.level(level) : null;
  if (shown !== "visit") local.visitAt = 0;
  else if (!local.visitAt) local.visitAt = Date.now();
  view.render({
    screen: shown, shutter: shutter(), state: state ?? empty, fault: fault(), down: local.down && state !== null, language: language(),
    languages: words.usable(state?.languages), replaced: local.replaced, visitAt: local.visitAt,
    video: open ? camera.video : null, standIn: camera.standIn.video, silent: open && camera.silent,
  });
  count();
}

const empty = { name: "", guests: [], windows: [], missed: [], knock: null, identity: null, verify: null, ring: null, can_ring: false, held: false, voice: null, talking: [], trials: false, withheld: [], renewed: [], unseen: [], unshown: [], line: "", allowed: [], more: 0, stranger: false, peer: null, shared: null, languages: [], timezone: "", since: 0, seen: false };

// count shows the countdown and makes its sound. It uses the page's clock, because states come only when something changes.
function count() {
  view.left(Math.max(Math.ceil((local.countUntil - performance.now()) / 1000), 0));
  const left = screen() === "opening" && local.countUntil ? local.countUntil - performance.now() : 0;
  const number = left > 0 ? Math.min(Math.ceil(3 * left / local.countTotal), 3) : 0;
  view.count(number, left > 0 ? 1 - left / local.countTotal : 1);
  if (number && number !== lastTick) sound.tick(hour());
  lastTick = number;
  if (left > 0) requestAnimationFrame(count);
}

let waking = null;
async function stayAwake() {
  if (!("wakeLock" in navigator) || document.visibilityState !== "visible" || (waking && !waking.released)) return;
  waking = await navigator.wakeLock.request("screen").catch(() => null); // for example when the battery is low
}

function keys(e) {
  if (e.ctrlKey || e.altKey || e.metaKey) return;
  const focused = document.activeElement?.closest("button:not(#press)");
  switch (e.key) {
    case " ":
    case "Enter": // instead of the browser's click, which repeats while the key is held
      e.preventDefault();
      if (e.type === "keydown" && !e.repeat) (focused?.getClientRects().length ? () => focused.click() : press)();
      break;
    case "ArrowLeft":
    case "ArrowRight":
    case "ArrowUp":
    case "ArrowDown":
      if (e.type === "keydown") view.choose(e.key === "ArrowLeft" || e.key === "ArrowUp");
      break;
    case "r":
    case "R":
      if (e.type === "keydown" && !e.repeat) call();
      break;
    case "a":
    case "A":
      if (e.type === "keydown" && !e.repeat) setAjar("ajar");
      break;
    case "Escape":
      if (e.type === "keydown") shut();
      break;
    case "t":
    case "T":
      if (e.type === "keydown" && !e.repeat) talk();
      break;
    case "l":
    case "L":
      if (e.type === "keydown" && !e.repeat) nextLanguage();
      break;
  }
}

async function begin() {
  for (let wait = 500; ; wait = Math.min(wait * 2, 5000)) {
    try {
      await words.load();
      break;
    } catch {
      await new Promise((done) => setTimeout(done, wait));
    }
  }
  addEventListener("keydown", keys);
  addEventListener("keyup", keys);
  addEventListener("contextmenu", (e) => e.preventDefault());
  addEventListener("dragstart", (e) => e.preventDefault());
  document.addEventListener("visibilitychange", stayAwake);
  view.onPress(press);
  view.onLanguage(nextLanguage);
  view.onAjar(() => setAjar());
  view.onAnswer(reply);
  view.onCall(call);
  view.onTalk(talk);
  setInterval(() => { view.clock(); count(); stayAwake(); }, 1000);
  expose({ media, camera, program, screen, shutter, state: () => state, name: () => state?.name ?? "" });
  stayAwake();
  update();
  program.connect();
}

begin();
