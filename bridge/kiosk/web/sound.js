// The page's sounds. They are computed. They are no louder than people who talk, and softer at night.

let context;

// audio returns the page's one AudioContext. Browsers start it after the first press (autoplay policy); a kiosk's browser starts it at once.
export function audio() {
  context ??= new AudioContext();
  if (context.state === "suspended") context.resume().catch(() => {});
  return context;
}

const loudness = 0.16;
const nightly = 0.4;

function gain(hour) {
  return hour < 7 || hour >= 22 ? loudness * nightly : loudness;
}

function note(frequency, after, length, volume, shape = "sine") {
  const at = audio();
  const begin = at.currentTime + after;
  const source = new OscillatorNode(at, { frequency, type: shape });
  const level = new GainNode(at, { gain: 0 });
  level.gain.setValueAtTime(0, begin);
  level.gain.linearRampToValueAtTime(volume, begin + 0.015);
  level.gain.exponentialRampToValueAtTime(0.0001, begin + length);
  source.connect(level).connect(at.destination);
  source.start(begin);
  source.stop(begin + length);
}

export function opened(hour) {
  [523.25, 659.25, 783.99].forEach((f, i) => note(f, i * 0.13, 0.7, gain(hour)));
}

export function closed(hour) {
  [783.99, 659.25, 523.25].forEach((f, i) => note(f, i * 0.11, 0.55, gain(hour)));
}

export function arrived(hour) {
  [659.25, 880].forEach((f, i) => note(f, i * 0.1, 0.5, gain(hour) * 0.8));
}

// knocked is three taps on wood.
export function knocked(hour) {
  for (const after of [0, 0.24, 0.48]) {
    note(196, after, 0.12, gain(hour) * 1.4, "triangle");
    note(612, after, 0.04, gain(hour) * 0.5, "square");
  }
}

// ringing is heard while the window's people are rung.
export function ringing(hour) {
  for (const after of [0, 0.35]) note(440, after, 0.3, gain(hour) * 0.5);
}

export function tick(hour) {
  note(1250, 0, 0.06, gain(hour) * 0.5, "triangle");
}
