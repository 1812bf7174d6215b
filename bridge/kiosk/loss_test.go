//go:build full

package kiosk_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// peers keeps the page's peer connections.
const peers = `(() => {
	const Peer = window.RTCPeerConnection;
	window.peers = [];
	window.RTCPeerConnection = class extends Peer { constructor(...args) { super(...args); peers.push(this); } };
	window.describe = async () => {
		const pc = peers.at(-1), out = [pc.connectionState];
		for (const t of pc.getTransceivers().slice(0, 3)) {
			const p = t.sender.getParameters();
			const s = [...(await t.sender.getStats()).values()].find((r) => r.type === "outbound-rtp") || {};
			out.push([t.mid, t.currentDirection, t.sender.track?.readyState, t.sender.track?.muted, JSON.stringify(p.encodings), s.mid, s.ssrc, s.active, s.framesEncoded, s.keyFramesEncoded, s.frameWidth, s.qualityLimitationReason].join(" "));
		}
		return out.join("\n");
	};
})()`

// reportedLoss is the loss of its sound that the page was told of.
const reportedLoss = `(async () => {
	for (const s of (await peers.at(-1).getStats()).values()) if (s.type === "remote-inbound-rtp" && s.kind === "audio") return s.fractionLost;
	return -1;
})()`

// redundant says whether a packet of Opus has a second, coarser copy of the sound before it (in-band FEC; RFC 6716, sections 3.1, 4.2.3 and 4.2.4).
func redundant(packet []byte) bool {
	if len(packet) < 2 || packet[0]>>3 >= 16 { // CELT has none
		return false
	}
	frames := []int{1, 1, 2, 3}[packet[0]>>3&3] // in SILK's frames of 20 ms
	if packet[0]>>3 >= 12 {
		frames = 1 // hybrid
	}
	return packet[1]>>(7-frames)&1 == 1
}

// TestLoss: the page's encoder of sound hears of the loss on the far line, and makes redundancy for it. It stops when nothing gets lost any more. Silence
// gets none.
func TestLoss(t *testing.T) {
	browser.Need(t)
	r := newPageRig(t)
	page := openPage(t, r, browser.Options{Script: peers})
	page.click()
	page.until("the running camera", func(s snapshot) bool { return s.Own.Audio == "live" && s.Media })
	for _, loss := range []float64{0, 0.1, 0} {
		r.media.SetLoss(loss)
		rig.Eventually(t, 20*time.Second, func() error {
			var got float64
			err := page.eval(reportedLoss, &got)
			return rig.Check(err == nil && math.Abs(got-loss) < 0.01, fmt.Sprintf("a loss of %v being reported", loss), fmt.Sprint(got, err))
		})
		rig.Eventually(t, 30*time.Second, func() error {
			sounds, copies := r.audio.Load(), r.copies.Load()
			<-time.After(time.Second)
			sounds, copies = r.audio.Load()-sounds, r.copies.Load()-copies
			return rig.Check(sounds > 20 && (loss > 0) == (copies > 0), fmt.Sprintf("redundancy for a loss of %v", loss),
				fmt.Sprint(copies, " of ", sounds))
		})
	}
}
