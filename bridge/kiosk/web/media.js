// The peer connection to the program: own tracks go out, others come in by slots.

const still = 2000; // ms after which a picture stands still
const gatherLimit = 2000;
const smallWidth = 320; // pixels
const limitPatience = 2000; // ms: an encoder without pictures may take a limit only with the next one
const firstBitrate = 1_700_000;

export class Media {
  slots = new Map(); // by number
  #pc = null;
  #senders = [];
  #tracks = [null, null, null]; // sound, picture, the same picture in small
  #bitrates = [firstBitrate, 0];
  #limiting = Promise.resolve(); // the change of the limit that is under way
  #make;
  #on;
  #audible = false;

  // on has picture(slot, playing, frames) and failed(err); make(slot) returns the slot's elements {video, audio}.
  constructor(on, make) {
    this.#on = on;
    this.#make = make;
    setInterval(() => this.#look(), 250);
  }

  get connected() {
    return this.#pc?.connectionState === "connected";
  }

  // limits are those that the encoders of the picture and of the small picture have, in bit/s; 0 while they rest.
  get limits() {
    return this.#senders.slice(1).map((s) => {
      const [e] = s.getParameters().encodings ?? [];
      return e?.active ? e.maxBitrate ?? 0 : 0;
    });
  }

  // answer makes a new connection from an offer and returns the answer, or null when a later offer overtook it.
  async answer(sdp) {
    this.close();
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.#pc = pc;
    pc.ontrack = (e) => this.#show(e);
    try {
      await pc.setRemoteDescription({ type: "offer", sdp });
      // The first three sections are for the page's own sound, picture and small picture.
      const own = pc.getTransceivers().slice(0, 3);
      for (const t of own) t.direction = "sendonly";
      this.#senders = own.map((t) => t.sender);
      await this.#attach();
      await pc.setLocalDescription(await pc.createAnswer());
      await gathered(pc);
      this.#limiting = Promise.resolve(); // what is under way for the connection before may never end
      this.#limit();
    } catch (err) {
      if (pc === this.#pc) this.#on.failed(err);
      return null;
    }
    return pc === this.#pc ? pc.localDescription.sdp : null;
  }

  // send attaches the tracks, or takes them away with null. Away they are before it returns to the browser's event loop.
  send(audio, video) {
    if (this.#tracks[0] === audio && this.#tracks[1] === video) return;
    this.#tracks = [audio, video, video];
    this.#attach().then(() => this.#limit()).catch(() => {});
  }

  // limit sets the limits of the picture and of the small picture in bit/s. One without bitrate is not made.
  limit(bps, small) {
    this.#bitrates = [bps, small];
    this.#limit();
  }

  // hear says whether the others are heard.
  hear(audible) {
    this.#audible = audible;
    for (const s of this.slots.values()) s.audio.muted = !audible;
  }

  // play starts what a browser held back until somebody pressed.
  play() {
    for (const s of this.slots.values()) {
      for (const element of [s.video, s.audio]) if (element.srcObject && element.paused) element.play().catch(() => {});
    }
  }

  close() {
    this.#pc?.close();
    this.#pc = null;
    this.#senders = [];
    for (const [n, s] of this.slots) {
      if (s.playing) this.#on.picture(n, false, s.frames);
      s.video.srcObject = s.audio.srcObject = null;
      s.frames = 0;
      s.playing = false;
    }
  }

  // #attach never leaves out a call because the track is already there: an earlier call may still be on its way to take it off, or
  // to put it on. The browser carries them out in order.
  #attach() {
    return Promise.all(this.#senders.map((s, i) => s.replaceTrack(this.#tracks[i])));
  }

  // #limit tells the encoders their limits. A sender takes one change at a time, so a later one waits for the one before.
  #limit() {
    const patience = () => new Promise((done) => setTimeout(done, limitPatience));
    this.#limiting = this.#limiting.then(() => Promise.race([this.#setLimit(), patience()])).catch(() => {});
    return this.#limiting;
  }

  async #setLimit() {
    const bitrates = this.#bitrates;
    await Promise.all(this.#senders.slice(1).map((sender, i) => {
      const p = sender.getParameters();
      if (!p.encodings?.length) return null;
      const [encoding] = p.encodings;
      encoding.active = bitrates[i] > 0;
      if (encoding.active) encoding.maxBitrate = bitrates[i];
      p.degradationPreference = "maintain-framerate"; // people move; a coarser picture of them is better than a halting one
      if (i === 1) {
        encoding.scaleResolutionDownBy = Math.max(1, (sender.track?.getSettings().width ?? 0) / smallWidth);
        p.degradationPreference = "maintain-resolution"; // it is coarse enough
      }
      return sender.setParameters(p);
    }));
  }

  #show({ track, streams }) {
    const match = /^tile-(\d{1,2})$/.exec(streams[0]?.id ?? "");
    if (!match) return;
    const n = Number(match[1]);
    let slot = this.slots.get(n);
    if (!slot) {
      slot = { ...this.#make(n), frames: 0, last: 0, playing: false, stream: null };
      this.slots.set(n, slot);
      const count = () => {
        slot.frames++;
        slot.last = performance.now();
        slot.video.requestVideoFrameCallback(count);
      };
      slot.video.requestVideoFrameCallback(count);
    }
    const element = track.kind === "video" ? slot.video : slot.audio;
    element.srcObject = new MediaStream([track]);
    slot.audio.muted = !this.#audible;
    element.play().catch(() => {}); // held back by the browser: see play
  }

  // look tells when pictures begin to move and when they stand still.
  #look() {
    for (const [n, s] of this.slots) {
      const playing = s.last > 0 && s.video.srcObject !== null && performance.now() - s.last < still && s.frames > 0;
      if (playing === s.playing) continue;
      s.playing = playing;
      this.#on.picture(n, playing, s.frames);
    }
  }
}

// gathered waits until all own addresses are known: candidates are not trickled.
function gathered(pc) {
  return new Promise((done) => {
    if (pc.iceGatheringState === "complete") return done();
    const limit = setTimeout(done, gatherLimit);
    pc.addEventListener("icegatheringstatechange", () => {
      if (pc.iceGatheringState !== "complete") return;
      clearTimeout(limit);
      done();
    });
  });
}
