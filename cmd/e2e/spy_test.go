//go:build full

package e2e_test

import (
	"fmt"
	"math"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// spy stands between a page and its browser, and notes what the page does with them, so that the tests need to know nothing of the page:
// which tracks it got from camera and microphone, its peer connections, and the elements that play.
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
		// taken notes where the white bar is in each picture of the own camera, for some time: [time of day in ms, place from 0 to 1].
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
		// shown does the same for the largest picture of others, as it comes to the screen.
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
		// listen returns the strongest tone within 1.2 s of what is played aloud, and its level in dB.
		listen: async () => {
			context = context || new AudioContext();
			await context.resume();
			const ears = [];
			for (const player of players) {
				const stream = player.srcObject;
				if (!stream || player.muted || player.paused || player.volume === 0) continue;
				if (!stream.getAudioTracks().some((track) => track.readyState === "live" && track.enabled)) continue;
				const analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
				const node = context.createMediaStreamSource(new MediaStream(stream.getAudioTracks()));
				node.connect(analyser);
				ears.push({ analyser, node, bins: new Float32Array(analyser.frequencyBinCount) });
			}
			let best = { hz: 0, db: -1000, players: ears.length };
			for (let i = 0; i < 12; i++) {
				await new Promise((done) => setTimeout(done, 100));
				for (const { analyser, bins } of ears) {
					analyser.getFloatFrequencyData(bins);
					bins.forEach((db, bin) => {
						if (db > best.db) best = { hz: bin * context.sampleRate / analyser.fftSize, db, players: ears.length };
					});
				}
			}
			for (const { node } of ears) node.disconnect();
			if (!isFinite(best.db)) best.db = -1000;
			return best;
		},
	};
})()`

// heard is what a page plays.
type heard struct {
	Hz, DB  float64
	Players int
}

// number asks the spy for a number; NaN when the page does not answer.
func (v *viewer) number(call string) float64 {
	var n float64
	if err := v.eval("spy."+call, &n); err != nil {
		return math.NaN()
	}
	return n
}

// live is how many tracks of camera and microphone are on.
func (v *viewer) live() int { return int(v.number("live()")) }

// decoded counts the frames of others that the page has decoded.
func (v *viewer) decoded() float64 { return v.number("decoded()") }

// sent counts the bytes that the page has sent.
func (v *viewer) sent() float64 { return v.number("sent()") }

// state describes the page for a failure's message.
func (v *viewer) state() string {
	var text string
	if err := v.eval("document.body.innerText.slice(0, 300)", &text); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d live tracks, %.0f frames decoded, %q", v.live(), v.decoded(), text)
}

// awaitTone waits until the page plays a tone aloud.
func (v *viewer) awaitTone(hz float64, limit time.Duration) {
	v.t.Helper()
	rig.Eventually(v.t, limit, func() error {
		var h heard
		err := v.eval("spy.listen()", &h)
		return rig.Check(err == nil && math.Abs(h.Hz-hz) < 15 && h.DB > -70, fmt.Sprintf("%s hearing %.0f Hz", v.name, hz), fmt.Sprint(h, err))
	})
}
