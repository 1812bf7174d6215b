// Camera and microphone. They run only while the program wants them, and stop at once when it does not.
import * as standin from "./standin.js";

const wishes = {
  video: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } },
  audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
};
const again = 3000; // ms until the next attempt after a fault

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
      this.#start();
    }
  }

  // stop ends everything before it returns.
  stop() {
    const was = this.#wanted;
    this.#wanted = false;
    this.#attempt++;
    clearTimeout(this.#timer);
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
    const got = await acquire();
    if (attempt !== this.#attempt) { // the window was shut meanwhile, or a later attempt runs
      got.video?.stop();
      got.audio?.stop();
      return;
    }
    const code = !got.video ? got.videoFault : !got.audio ? got.audioFault : "";
    if (code && !this.#pattern) {
      got.video?.stop();
      got.audio?.stop();
      this.#report("fault", code);
      this.#timer = setTimeout(() => this.#start(), again);
      return;
    }
    if (!got.video) got.video = this.#standIn("video", standin.card(this.#on.name(), this.#on.text));
    if (!got.audio) got.audio = this.#standIn("audio", standin.tone(this.#on.name()));
    this.video = got.video;
    this.audio = got.audio;
    this.video.contentHint = "motion";
    for (const track of [this.video, this.audio]) track.onended = () => this.#start(); // somebody has pulled the plug
    this.#on.changed();
    this.#report("on");
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
