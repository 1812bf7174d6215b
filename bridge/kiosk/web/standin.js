// A test card and a soft tone, for a page without a camera or a microphone. Both depend on the window's name, so that two windows differ.
import { audio } from "./sound.js";

const width = 1280;
const height = 720;
const rate = 30;

function hash(name) {
  let h = 2166136261;
  for (const c of name) h = Math.imul(h ^ c.codePointAt(0), 16777619);
  return h >>> 0;
}

// hue and frequency are those of a window's test card and tone. Tests look for them.
export const hue = (name) => (hash(name) % 12) * 30;
export const frequency = (name) => 300 + ((hash(name) >>> 8) % 12) * 50;

// card returns a video track with the test card and a function that ends it. text() gives its lines: title, name, remark, clock.
export function card(name, text) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const c = canvas.getContext("2d", { alpha: false });
  const begun = performance.now();
  const draw = () => {
    const seconds = (performance.now() - begun) / 1000;
    const [title, shown, remark, time] = text();
    c.fillStyle = `hsl(${hue(name)} 55% 26%)`;
    c.fillRect(0, 0, width, height);
    c.fillStyle = `hsl(${hue(name)} 60% 34%)`;
    for (let x = 0; x < width; x += 160) c.fillRect(x, 0, 80, height);
    ["#c0c0c0", "#c0c000", "#00c0c0", "#00c000", "#c000c0", "#c00000", "#0000c0", "#101010"].forEach((colour, i) => {
      c.fillStyle = colour;
      c.fillRect(i * width / 8, height - 90, width / 8 + 1, 90);
    });
    // A moving bar shows whether the picture moves.
    c.fillStyle = "#ffffff";
    c.fillRect((seconds * 220) % (width + 60) - 60, height - 118, 60, 28);
    c.fillStyle = "rgb(0 0 0 / 0.72)";
    c.fillRect(190, 120, width - 380, 400);
    c.textAlign = "center";
    c.fillStyle = "#ffffff";
    const line = (what, size, y, weight = 600) => {
      c.font = `${weight} ${size}px system-ui, sans-serif`;
      c.fillText(what, width / 2, y, width - 440);
    };
    line(title.toUpperCase(), 44, 190);
    line(shown, 96, 310, 700);
    line(remark, 38, 380);
    line(time, 84, 482);
  };
  draw();
  const timer = setInterval(draw, 1000 / rate);
  const [track] = canvas.captureStream(rate).getVideoTracks();
  return { track, end: () => clearInterval(timer) };
}

// tone returns an audio track with a soft tone that swells four times a second: browsers suppress a steady tone as noise.
export function tone(name) {
  const at = audio();
  const source = new OscillatorNode(at, { frequency: frequency(name) });
  const swell = new OscillatorNode(at, { frequency: 4 });
  const depth = new GainNode(at, { gain: 0.03 });
  const level = new GainNode(at, { gain: 0.04 });
  const out = new MediaStreamAudioDestinationNode(at, { channelCount: 1 });
  swell.connect(depth).connect(level.gain);
  source.connect(level).connect(out);
  source.start();
  swell.start();
  return { track: out.stream.getAudioTracks()[0], end: () => { source.stop(); swell.stop(); level.disconnect(); } };
}
