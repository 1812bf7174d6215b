// Camera and microphone. They run only while the program wants them, and stop at once when it does not.
import { Ear } from "./ear.js";
import * as standin from "./standin.js";

const wishes = {
  video: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } },
  audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
};
const again = 3000; // ms until the next attempt after a fault
const lookEvery = 500; // ms between two looks whether new pictures have come

// Chromium does not end the track of a camera that hangs. So the page counts the looks at which no new picture has come. It counts looks and not
// time: a page that was asleep, or whose timers are slow because it is hidden, finds no fault.
const hung = 5; // looks after which a camera that gave pictures counts as hung, and is opened anew
const slow = 16; // looks that a camera has for its first picture
const hangs = "no_picture"; // the code of that fault
const told = 8; // looks after which people are told: within five seconds, and after a first attempt to open it anew

export class Camera {
  video = null; // the tracks, both or none
  audio = null;
  standIn = { video: false, audio: false };
  #wanted = false;
  #pattern = false;
  #attempt = 0;
  #timer = 0;
  #ends = [];
  #reported = { state: "off", code: "" };
  #on;
  #looking = 0; // the timer of the looks, while the camera is wanted
  #opening = false; // the browser has not answered yet
  #frames = 0; // that the present camera has given
  #patience = slow; // how many looks it has left for the next one
  #without = 0; // looks without a new picture in a row, whatever was opened meanwhile
  #ear = new Ear(() => this.#on.changed());

  // on has changed(), report(state, code), name() and text() for the test card.
  constructor(on) {
    this.#on = on;
    navigator.mediaDevices?.addEventListener("devicechange", () => {
      const lacking = !this.video || this.standIn.video || this.standIn.audio;
      if (this.#wanted && lacking) this.#start();
    });
  }

  // want says whether camera and microphone should run, and whether a test card and a tone may replace them.
  want(wanted, pattern) {
    const news = wanted !== this.#wanted || (wanted && pattern !== this.#pattern);
    this.#pattern = pattern;
    if (!wanted) {
      this.stop();
    } else if (news) {
      this.#wanted = true;
      this.#without = 0;
      this.#looking ||= setInterval(() => this.#look(), lookEvery);
      this.#start();
    }
  }

  // silent says that the microphone has given nothing but zeros for a minute.
  get silent() {
    return this.#ear.silent;
  }

  // stop ends everything before it returns.
  stop() {
    const was = this.#wanted;
    this.#wanted = false;
    this.#attempt++;
    clearTimeout(this.#timer);
    clearInterval(this.#looking);
    this.#looking = 0;
    this.#drop();
    if (was) this.#report("off");
  }

  // repeat reports the present state again, to a program that was started anew.
  repeat() {
    this.#on.report(this.#reported.state, this.#reported.code);
  }

  #report(state, code = "") {
    if (this.#reported.state === state && this.#reported.code === code) return;
    this.#reported = { state, code };
    this.#on.report(state, code);
  }

  #drop() {
    this.#ear.listen(null);
    for (const track of [this.video, this.audio]) {
      if (!track) continue;
      track.onended = null;
      track.stop();
    }
    for (const end of this.#ends) end();
    this.#ends = [];
    const had = this.video || this.audio;
    this.video = this.audio = null;
    this.standIn = { video: false, audio: false };
    if (had) this.#on.changed();
  }

  async #start() {
    const attempt = ++this.#attempt;
    clearTimeout(this.#timer);
    this.#drop(); // a camera can be opened once only
    this.#opening = true;
    const got = await acquire();
    if (attempt !== this.#attempt) { // the window was shut meanwhile, or a later attempt runs
      got.video?.stop();
      got.audio?.stop();
      return;
    }
    this.#opening = false;
    const code = !got.video ? got.videoFault : !got.audio ? got.audioFault : "";
    if (code && !this.#pattern) {
      got.video?.stop();
      got.audio?.stop();
      this.#without = 0;
      this.#report("fault", code);
      this.#later();
      return;
    }
    this.#use(got);
  }

  #later() {
    this.#timer = setTimeout(() => this.#start(), again);
  }

  // #use begins with the tracks that there are. Stand-ins replace the others.
  #use(got) {
    if (!got.video) got.video = this.#standIn("video", standin.card(this.#on.name(), this.#on.text));
    if (!got.audio) got.audio = this.#standIn("audio", standin.tone(this.#on.name()));
    this.video = got.video;
    this.audio = got.audio;
    this.video.contentHint = "motion";
    this.#frames = 0;
    this.#patience = slow;
    for (const track of [this.video, this.audio]) track.onended = () => this.#start(); // somebody has pulled the plug
    this.#on.changed();
    if (this.standIn.video || this.#reported.code !== hangs) this.#report("on"); // a camera that hung must give a picture first
    if (!this.standIn.audio) this.#ear.listen(this.audio);
  }

  // #look opens a camera anew that gives no pictures any more.
  #look() {
    if (!this.video && !this.#opening) return; // a fault is reported, and the next attempt comes by itself
    if (this.#delivers()) {
      this.#without = 0;
      this.#patience = hung;
      this.#report("on");
      return;
    }
    this.#without++;
    if (this.#without >= told) this.#tell();
    if (this.#opening || --this.#patience > 0) return;
    if (this.#without < told) {
      this.#start();
      return;
    }
    this.#drop();
    this.#later();
  }

  // #delivers says whether the camera has given a picture since the last look. A browser that does not count pictures (MediaStreamTrack
  // Statistics) can only say whether the camera is muted.
  #delivers() {
    if (this.standIn.video) return true;
    if (!this.video || this.video.muted) return false;
    const { deliveredFrames } = this.video.stats ?? {};
    const news = deliveredFrames !== this.#frames;
    this.#frames = deliveredFrames;
    return news || deliveredFrames === undefined;
  }

  // #tell reports the fault, or lets stand-ins take over. While the browser still asks people whether it may use the camera, that is what they read.
  async #tell() {
    const attempt = this.#attempt;
    const asks = this.#opening && await navigator.permissions?.query({ name: "camera" }).then((p) => p.state === "prompt", () => false);
    if (attempt !== this.#attempt || this.#without < told) return;
    if (asks || !this.#pattern) {
      this.#report("fault", asks ? "denied" : hangs);
      return;
    }
    this.#attempt++;
    this.#opening = false;
    this.#drop();
    this.#use({ video: null, audio: null });
  }

  #standIn(kind, { track, end }) {
    this.standIn[kind] = true;
    this.#ends.push(end);
    return track;
  }
}

// acquire returns the tracks that can be opened, and why the others cannot.
async function acquire() {
  const got = { video: null, audio: null, videoFault: "", audioFault: "" };
  const media = navigator.mediaDevices;
  if (!media) return { ...got, videoFault: "other", audioFault: "other" };
  try {
    const both = await media.getUserMedia(wishes);
    [got.video] = both.getVideoTracks();
    [got.audio] = both.getAudioTracks();
    return got;
  } catch {
    // The error does not say which of the two failed.
  }
  try {
    [got.video] = (await media.getUserMedia({ video: wishes.video })).getVideoTracks();
  } catch (err) {
    got.videoFault = reason(err);
  }
  try {
    [got.audio] = (await media.getUserMedia({ audio: wishes.audio })).getAudioTracks();
  } catch (err) {
    got.audioFault = reason(err) === "denied" ? "denied" : "no_microphone";
  }
  return got;
}

// reason maps the errors of getUserMedia (Media Capture and Streams, 10.2) to the codes of the protocol.
function reason(err) {
  switch (err?.name) {
    case "NotFoundError":
    case "OverconstrainedError":
      return "none";
    case "NotReadableError":
    case "AbortError":
      return "busy";
    case "NotAllowedError":
    case "SecurityError":
      return "denied";
  }
  return "other";
}
