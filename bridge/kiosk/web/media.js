// The peer connection to the program. It sends our own tracks and receives the others' tracks, for one tile each.

const still = 2000; // ms without a new frame after which a picture counts as still
const gatherLimit = 2000;
const smallWidth = 320; // pixels
const limitPatience = 2000; // ms; an encoder that gets no pictures may accept a limit only with the next picture
const firstBitrate = 1_700_000;

// sizes are the heights of the picture, in pixels, and the bitrate from which on each looks better than the one before. An encoder that gets too few
// bits for its size leaves out pictures, and its key frames are too large for the line.
const sizes = [[180, 0], [270, 220_000], [360, 450_000], [540, 1_200_000], [720, 1_600_000]];
// rates are the most pictures a second, and up to which bitrate.
const rates = [[12, 100_000], [15, 150_000], [20, 200_000], [30, Infinity]];
const halfLife = 2000; // ms in which the bitrate that counts has fallen by half
const margin = 1.15; // by which a bitrate has to exceed that, lest the size changes again and again

export class Media {
  tiles = new Map(); // by number
  #pc = null;
  #senders = [];
  #tracks = [null, null, null]; // sound, picture, the same picture in small
  #bitrates = [firstBitrate, 0];
  #size = sizes.length - 1; // of the picture
  #usual = 0; // bitrate that the size follows: a short fall does not count
  #limited = 0; // when the limit was last set
  #limiting = Promise.resolve(); // the change of limits that is under way
  #make;
  #on;
  #audible = false;
  onLevel = null; // gets how loud the others are, from 0 to 1; null while nobody wants to know

  // on has picture(tile, playing, frames) and failed(err); make(tile) returns the tile's elements {video, audio}.
  constructor(on, make) {
    this.#on = on;
    this.#make = make;
    setInterval(() => this.#look(), 250);
  }

  get connected() {
    return this.#pc?.connectionState === "connected";
  }

  // limits are the present limits of the two encoders, for the picture and for the small picture, in bit/s; 0 for one that is off.
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
      this.#limiting = Promise.resolve(); // the last change on the connection before may never end
      this.#limit();
    } catch (err) {
      if (pc === this.#pc) this.#on.failed(err);
      return null;
    }
    return pc === this.#pc ? pc.localDescription.sdp : null;
  }

  // send attaches the tracks, or removes them with null. They are removed before the browser's event loop goes on.
  send(audio, video) {
    if (this.#tracks[0] === audio && this.#tracks[1] === video) return;
    this.#tracks = [audio, video, video];
    this.#attach().then(() => this.#limit()).catch(() => {});
  }

  // limit sets the limits of the picture and of the small picture, in bit/s. A picture with the limit 0 is not encoded.
  limit(bps, small) {
    this.#bitrates = [bps, small];
    const now = performance.now();
    this.#usual = Math.max(bps, this.#usual * 0.5 ** ((now - this.#limited) / halfLife));
    this.#limited = now;
    while (bps > 0 && (this.#usual < sizes[this.#size][1] || bps < sizes[this.#size][1] / 2)) this.#size--;
    while (this.#size < sizes.length - 1 && bps >= sizes[this.#size + 1][1] * (this.#size + 1 < sizes.length - 1 ? margin : 1)) this.#size++;
    this.#limit();
  }

  // hear says whether the others are heard.
  hear(audible) {
    this.#audible = audible;
    for (const s of this.tiles.values()) s.audio.muted = !audible;
  }

  // play starts what the browser did not play before somebody pressed a button (autoplay policy).
  play() {
    for (const s of this.tiles.values()) {
      for (const element of [s.video, s.audio]) if (element.srcObject && element.paused) element.play().catch(() => {});
    }
  }

  close() {
    this.#pc?.close();
    this.#pc = null;
    this.#senders = [];
    for (const [n, s] of this.tiles) {
      if (s.playing) this.#on.picture(n, false, s.frames);
      s.video.srcObject = s.audio.srcObject = null;
      s.frames = 0;
      s.playing = false;
    }
  }

  // #attach calls replaceTrack even if the track is already there, because an earlier call that removes it may still be under way. The browser
  // carries out these calls in order.
  #attach() {
    return Promise.all(this.#senders.map((s, i) => s.replaceTrack(this.#tracks[i])));
  }

  // #limit tells the encoders their limits. A sender takes one change at a time, so each change waits for the one before.
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
      p.degradationPreference = "maintain-framerate"; // people move: a coarse picture is better than one that stops again and again
      if (i === 0) {
        const full = this.#size === sizes.length - 1;
        encoding.scaleResolutionDownBy = full ? 1 : Math.max(1, shortSide(sender.track) / sizes[this.#size][0]);
        encoding.maxFramerate = rates.find(([, most]) => bitrates[0] < most)[0];
        if (!full) p.degradationPreference = "maintain-resolution"; // the size fits already
      }
      if (i === 1) {
        encoding.scaleResolutionDownBy = Math.max(1, (sender.track?.getSettings().width ?? 0) / smallWidth);
        p.degradationPreference = "maintain-resolution"; // it is small already
      }
      return sender.setParameters(p);
    }));
  }

  #show({ track, streams }) {
    const match = /^tile-(\d{1,2})$/.exec(streams[0]?.id ?? "");
    if (!match) return;
    const n = Number(match[1]);
    let tile = this.tiles.get(n);
    if (!tile) {
      tile = { ...this.#make(n), frames: 0, last: 0, playing: false, stream: null };
      this.tiles.set(n, tile);
      const count = () => {
        tile.frames++;
        tile.last = performance.now();
        tile.video.requestVideoFrameCallback(count);
      };
      tile.video.requestVideoFrameCallback(count);
    }
    const element = track.kind === "video" ? tile.video : tile.audio;
    element.srcObject = new MediaStream([track]);
    tile.audio.muted = !this.#audible;
    element.play().catch(() => {}); // the browser may refuse: see play
  }

  // #measure reports how loud the others are.
  async #measure() {
    let level = 0;
    for (const report of (await this.#pc?.getStats())?.values() ?? []) {
      if (report.type === "inbound-rtp" && report.kind === "audio") level = Math.max(level, report.audioLevel ?? 0);
    }
    this.onLevel?.(Math.min(1, Math.sqrt(level)));
  }

  // #look reports which pictures have begun to move, and which stand still.
  #look() {
    if (this.onLevel) this.#measure().catch(() => {});
    for (const [n, s] of this.tiles) {
      const playing = s.last > 0 && s.video.srcObject !== null && performance.now() - s.last < still && s.frames > 0;
      if (playing === s.playing) continue;
      s.playing = playing;
      this.#on.picture(n, playing, s.frames);
    }
  }
}

// gathered waits until all our candidates are known, because they are not trickled (RFC 8838).
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

// shortSide is a picture's height, or its width if it stands upright, in pixels; 0 when it is not known.
function shortSide(track) {
  const { width = 0, height = 0 } = track?.getSettings() ?? {};
  return Math.min(width, height);
}
