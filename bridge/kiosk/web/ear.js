// Whether the microphone gives anything at all. One that is switched off, or whose cable is loose, often stays there for the browser and gives nothing
// but zeros. The quietest room gives more than that.
import { audio } from "./sound.js";

const every = 600; // ms
const memory = 32768; // samples that the analyser remembers: 0.68 s at 48 kHz, so that no sound between two looks is missed
const limit = 100; // looks without a sound, one minute

export class Ear {
  silent = false;
  #changed;
  #timer = 0;
  #looks = 0; // without a sound
  #track = null;
  #source = null;
  #meter = null;
  #samples = new Float32Array(memory);
  #at = 0; // the context's time at the last look

  constructor(changed) {
    this.#changed = changed;
  }

  // listen begins with a track, or ends with null.
  listen(track) {
    clearInterval(this.#timer);
    this.#source?.disconnect();
    this.#track = track;
    this.#source = this.#meter = null;
    this.#looks = 0;
    this.silent = false;
    if (!track) return;
    const context = audio();
    this.#meter = new AnalyserNode(context, { fftSize: memory });
    this.#source = context.createMediaStreamSource(new MediaStream([track]));
    this.#source.connect(this.#meter);
    this.#timer = setInterval(() => this.#look(), every);
  }

  #look() {
    const { state, currentTime } = this.#meter.context;
    const runs = state === "running" && currentTime > this.#at; // else the analyser has nothing new, and may have nothing at all
    this.#at = currentTime;
    if (!runs) return;
    this.#meter.getFloatTimeDomainData(this.#samples);
    const heard = !this.#track.muted && this.#samples.some((s) => s !== 0);
    this.#looks = heard ? 0 : this.#looks + 1;
    const silent = this.#looks >= limit;
    if (silent === this.silent) return;
    this.silent = silent;
    this.#changed();
  }
}
