// window.ewindow is for tests and for people who look for a fault. It can be read, and changes nothing.
import { audio } from "./sound.js";
import * as standin from "./standin.js";

const sample = 32; // pixels, to which a picture is reduced
const spot = 4; // pixels in each direction that are averaged

export function expose({ media, camera, program, screen, shutter, state, name }) {
  let canvas = null;
  const meters = new Map(); // by track id
  const track = (t) => (t ? t.readyState : "none");

  // colour averages a tile's picture around a spot, as [red, green, blue] from 0 to 255; null without one. x and y run from 0 to 1.
  const colour = (tile, x = 0.5, y = 0.5) => {
    const video = tile === "own" ? document.querySelector("#own video") : media.tiles.get(tile)?.video;
    if (!video?.videoWidth) return null;
    canvas ??= new OffscreenCanvas(sample, sample).getContext("2d", { willReadFrequently: true });
    canvas.drawImage(video, 0, 0, sample, sample);
    const { data } = canvas.getImageData(Math.round(x * (sample - spot)), Math.round(y * (sample - spot)), spot, spot);
    const sum = [0, 0, 0];
    for (let i = 0; i < data.length; i += 4) for (let c = 0; c < 3; c++) sum[c] += data[i + c];
    return sum.map((v) => Math.round(v / (data.length / 4)));
  };

  // tone measures a tile's sound at this moment: its strongest frequency in Hz, and the level of that in dB. The first call for a track
  // only starts the measurement.
  const tone = (tile) => {
    const t = tile === "own" ? camera.audio : media.tiles.get(tile)?.audio.srcObject?.getAudioTracks()[0];
    if (!t) return null;
    const at = audio();
    let meter = meters.get(t.id);
    if (!meter) {
      meter = new AnalyserNode(at, { fftSize: 8192, smoothingTimeConstant: 0.3 });
      at.createMediaStreamSource(new MediaStream([t])).connect(meter);
      meters.set(t.id, meter);
    }
    const bins = new Float32Array(meter.frequencyBinCount);
    meter.getFloatFrequencyData(bins);
    let best = 0;
    for (let i = 1; i < bins.length; i++) if (bins[i] > bins[best]) best = i;
    return { frequency: Math.round(best * at.sampleRate / meter.fftSize), level: Math.max(bins[best], -200) };
  };

  const snapshot = () => ({
    screen: screen(),
    shutter: shutter(),
    connected: program.up,
    media: media.connected,
    own: {
      video: track(camera.video), audio: track(camera.audio), standIn: { ...camera.standIn },
      hue: standin.hue(name()), frequency: standin.frequency(name()),
      bitrate: media.limits[0], small: media.limits[1],
    },
    tiles: [...media.tiles].sort(([a], [b]) => a - b).map(([tile, s]) => ({
      tile, frames: s.frames, playing: s.playing, width: s.video.videoWidth, height: s.video.videoHeight, audible: !s.audio.muted,
    })),
    state: structuredClone(state()),
  });

  Object.defineProperty(window, "ewindow", { value: Object.freeze({ snapshot, colour, tone }) });
}
