//go:build full

package e2e_test

import (
	"fmt"
	"math"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// spy is a script that runs in a page before the page's own scripts. It wraps the browser's interfaces and records what the page uses: the
// tracks of camera and microphone, the peer connections, and the media elements that play. So the tests depend on no detail of the page.
const spy = `(() => {
	const own = [], peers = [], players = new Set();
	if (!navigator.mediaDevices) return;
	const media = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
	navigator.mediaDevices.getUserMedia = async (...args) => {
		const stream = await media(...args);
		own.push(...stream.getTracks());
		return stream;
	};
	const Peer = window.RTCPeerConnection;
	window.RTCPeerConnection = class extends Peer {
		constructor(...args) { super(...args); peers.push(this); }
	};
	const source = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "srcObject");
	Object.defineProperty(HTMLMediaElement.prototype, "srcObject", {
		...source, set(stream) { players.add(this); source.set.call(this, stream); },
	});
	const count = async (type, field) => {
		let sum = 0;
		for (const peer of peers) {
			if (peer.connectionState === "closed") continue;
			for (const report of (await peer.getStats()).values()) {
				if (report.type === type) sum += report[field] || 0;
			}
		}
		return sum;
	};
	const row = new OffscreenCanvas(240, 1).getContext("2d", { willReadFrequently: true });
	const note = (bars, picture) => {
		const at = performance.timeOrigin + performance.now();
		const height = picture.displayHeight || picture.videoHeight;
		row.drawImage(picture, 0, height / 2, picture.displayWidth || picture.videoWidth, 1, 0, 0, 240, 1);
		const { data } = row.getImageData(0, 0, 240, 1);
		let sum = 0, n = 0;
		for (let x = 0; x < 240; x++) if (Math.min(data[4 * x], data[4 * x + 1], data[4 * x + 2]) > 170) { sum += x; n++; }
		if (n > 10) bars.push([at, sum / n / 240]);
	};
	let context;
	window.spy = {
		live: () => own.filter((track) => track.readyState === "live").length,
		sent: () => count("outbound-rtp", "bytesSent"),
		decoded: () => count("inbound-rtp", "framesDecoded"),
		height: async () => {
			let height = 0;
			for (const peer of peers) {
				if (peer.connectionState === "closed") continue;
				for (const report of (await peer.getStats()).values()) {
					if (report.type === "inbound-rtp" && report.kind === "video") height = Math.max(height, report.frameHeight || 0);
				}
			}
			return height;
		},
		// codecs returns the codecs of the pictures that arrive, such as "video/VP8".
		codecs: async () => {
			const found = [];
			for (const peer of peers) {
				if (peer.connectionState === "closed") continue;
				const stats = await peer.getStats();
				for (const report of stats.values()) {
					if (report.type === "inbound-rtp" && report.kind === "video" && report.framesPerSecond > 0) found.push(stats.get(report.codecId)?.mimeType);
				}
			}
			return found;
		},
		// taken records, for ms milliseconds, where the white bar is in each picture of this page's camera. Each entry is [time of day in
		// ms, position from 0 to 1].
		taken: async (ms) => {
			const track = own.find((t) => t.kind === "video" && t.readyState === "live");
			const reader = new MediaStreamTrackProcessor({ track: track.clone() }).readable.getReader();
			const bars = [];
			for (const end = performance.now() + ms; performance.now() < end;) {
				const { value } = await reader.read();
				if (!value) break;
				note(bars, value);
				value.close();
			}
			reader.cancel();
			return bars;
		},
		// shown does the same for the largest video of others, at the time when the browser presents each frame.
		shown: (ms) => new Promise((done) => {
			const bars = [];
			const end = performance.now() + ms;
			const large = [...players].filter((p) => p.videoWidth && !p.paused && !own.includes(p.srcObject?.getVideoTracks()[0]))
				.sort((a, b) => b.clientWidth - a.clientWidth)[0];
			const look = () => {
				note(bars, large);
				if (performance.now() < end) large.requestVideoFrameCallback(look);
				else done(bars);
			};
			large.requestVideoFrameCallback(look);
		}),
		// listen analyses for 1.2 s what the page plays aloud. It returns the strongest tone and its level in dB.
		listen: async () => {
			context = context || new AudioContext();
			await context.resume();
			const analysers = [];
			for (const player of players) {
				const stream = player.srcObject;
				if (!stream || player.muted || player.paused || player.volume === 0) continue;
				if (!stream.getAudioTracks().some((track) => track.readyState === "live" && track.enabled)) continue;
				const analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
				const node = context.createMediaStreamSource(new MediaStream(stream.getAudioTracks()));
				node.connect(analyser);
				analysers.push({ analyser, node, bins: new Float32Array(analyser.frequencyBinCount) });
			}
			let best = { hz: 0, db: -1000, players: analysers.length };
			for (let i = 0; i < 12; i++) {
				await new Promise((done) => setTimeout(done, 100));
				for (const { analyser, bins } of analysers) {
					analyser.getFloatFrequencyData(bins);
					bins.forEach((db, bin) => {
						if (db > best.db) best = { hz: bin * context.sampleRate / analyser.fftSize, db, players: analysers.length };
					});
				}
			}
			for (const { node } of analysers) node.disconnect();
			if (!isFinite(best.db)) best.db = -1000;
			return best;
		},
	};
})()`

// heard is the strongest tone that a page plays, its level, and how many elements play sound.
type heard struct {
	Hz, DB  float64
	Players int
}

// number calls a function of the spy that returns a number. It returns NaN when the page does not answer.
func (v *windowPage) number(call string) float64 {
	var n float64
	if err := v.eval("spy."+call, &n); err != nil {
		return math.NaN()
	}
	return n
}

// live returns how many tracks of camera and microphone are on.
func (v *windowPage) live() int { return int(v.number("live()")) }

// decoded returns how many video frames of others the page has decoded.
func (v *windowPage) decoded() float64 { return v.number("decoded()") }

// sent returns how many bytes of media the page has sent.
func (v *windowPage) sent() float64 { return v.number("sent()") }

// state describes the page for a failure's message.
func (v *windowPage) state() string {
	var text string
	if err := v.eval("document.body.innerText.slice(0, 300)", &text); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d live tracks, %.0f frames decoded, %q", v.live(), v.decoded(), text)
}

// awaitTone waits until the page plays a tone aloud.
func (v *windowPage) awaitTone(hz float64, limit time.Duration) {
	v.t.Helper()
	rig.Eventually(v.t, limit, func() error {
		var h heard
		err := v.eval("spy.listen()", &h)
		return rig.Check(err == nil && math.Abs(h.Hz-hz) < 15 && h.DB > -70, fmt.Sprintf("%s hearing %.0f Hz", v.name, hz), fmt.Sprint(h, err))
	})
}
