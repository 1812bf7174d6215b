//go:build full

package paths_test

import (
	"context"
	"testing"
	"time"

	"multifactorymodel.org/ewindow/cmd/e2e/browser"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// lineSpy keeps a page's peer connections, so that received() can add up what their statistics say (WebRTC statistics, RTCInboundRtpStreamStats).
const lineSpy = `
const connections = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...args) { super(...args); connections.push(this); }
};
window.received = async () => {
  const sum = { pictures: 0, height: 0, concealed: 0, samples: 0, lost: 0, encoded: 0, sentHeight: 0, target: 0, keys: 0, sounds: 0, late: 0, spoken: 0 };
  for (const pc of connections) {
    if (pc.connectionState === "closed") continue;
    for (const s of (await pc.getStats()).values()) {
      if (s.type === "inbound-rtp" && s.kind === "video") {
        sum.pictures += s.framesDecoded ?? 0;
        sum.height = Math.max(sum.height, s.frameHeight ?? 0);
      }
      if (s.type === "inbound-rtp" && s.kind === "audio") {
        sum.concealed += (s.concealedSamples ?? 0) - (s.silentConcealedSamples ?? 0);
        sum.samples += s.totalSamplesReceived ?? 0;
        sum.sounds += s.packetsReceived ?? 0;
        sum.late += s.packetsDiscarded ?? 0;
      }
      if (s.type === "outbound-rtp" && s.kind === "audio") sum.spoken += s.packetsSent;
      if (s.type === "outbound-rtp" && s.kind === "video" && s.framesEncoded > 0) {
        sum.encoded += s.framesEncoded;
        sum.keys += s.keyFramesEncoded;
        sum.sentHeight = Math.max(sum.sentHeight, s.frameHeight ?? 0);
        sum.target = Math.max(sum.target, s.targetBitrate ?? 0);
      }
    }
  }
  return sum;
};
window.watch = () => {
  const screens = [];
  new MutationObserver(() => screens.push(document.querySelector("#window").dataset.screen)).observe(document.querySelector("#window"), { attributeFilter: ["data-screen"] });
  window.watched = () => screens.filter((s) => s !== "visit");
};
`

// received is what a page has received and sent, as its browser says. Samples are those of sound. Sounds are packets that came, Late those of them that
// came too late, Spoken those that were sent.
type received struct {
	Pictures, Height, Concealed, Samples, Encoded, SentHeight, Target, Keys, Sounds, Late, Spoken float64
}

// browserPage is a window's page in Chromium, in the kiosk's namespace.
type browserPage struct {
	*browser.Page
	t    testing.TB
	name string
}

// startBrowsers opens both pages in Chromium. Their cameras are noisy, and have a size in pixels.
func (v *network) startBrowsers(t testing.TB, width, height int) (pages [2]*browserPage) {
	t.Helper()
	camera, microphone := writeCamera(t, width, height), writeMicrophone(t)
	for i, s := range v.Sides {
		pages[i] = &browserPage{browser.Start(t, v.pageURL(t, i), browser.Options{
			Video: camera, Audio: microphone, Script: lineSpy, Host: s.Kiosk,
		}), t, windows[i]}
	}
	for _, p := range pages {
		p.await(time.Minute, "the other window", "!!window.ewindow && ewindow.snapshot().connected && ewindow.snapshot().state.windows?.some(w => w.joined)")
	}
	return pages
}

func (p *browserPage) eval(expression string, into any) error {
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	return p.Eval(ctx, expression, into)
}

// await waits until an expression is true.
func (p *browserPage) await(limit time.Duration, what, expression string) {
	p.t.Helper()
	rig.Eventually(p.t, limit, func() error {
		var ok bool
		err := p.eval(expression, &ok)
		return rig.Check(ok, p.name+": "+what, err)
	})
}

// button presses the window's button.
func (p *browserPage) button() {
	p.t.Helper()
	if err := p.Press(p.t.Context(), " ", "Space", 32); err != nil {
		p.t.Fatal(err)
	}
}

// received reads what the page has received so far.
func (p *browserPage) received() (r received) {
	p.t.Helper()
	if err := p.eval("received()", &r); err != nil {
		p.t.Fatal(err)
	}
	return r
}

// watch begins to take note of the screens that the page shows.
func (p *browserPage) watch() {
	p.t.Helper()
	if err := p.eval("watch()||true", nil); err != nil {
		p.t.Fatal(err)
	}
}

// screens returns the names of the screens that the page has shown since watch, but for the visit's.
func (p *browserPage) screens() (names []string) {
	p.t.Helper()
	if err := p.eval("watched()", &names); err != nil {
		p.t.Fatal(err)
	}
	return names
}

// openBoth opens one window after the other, and waits for the visit.
func openBoth(t testing.TB, pages [2]*browserPage) {
	t.Helper()
	pages[1].button()
	pages[1].await(openLimit, "the open window", "document.querySelector('#window').dataset.screen === 'alone'")
	pages[0].await(openLimit, "the open window of the other", "ewindow.snapshot().state.windows?.some(w => w.shutter === 'open')")
	pages[0].button()
	for _, p := range pages {
		p.await(openLimit, "the visit", "document.querySelector('#window').dataset.screen === 'visit' && ewindow.snapshot().tiles.some(t => t.frames > 0)")
	}
}
