package page_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/callmedia/frames"
	pagemedia "multifactorymodel.org/ewindow/callmedia/page"
	"multifactorymodel.org/ewindow/callmedia/track"
	"multifactorymodel.org/ewindow/cmd/e2e/page"
)

const limit = 10 * time.Second // for each step

// TestPage connects the page without a browser to the real kiosk server. The page sends media while the state allows it, shows the media that it
// receives, and answers each new offer.
func TestPage(t *testing.T) {
	var server *kiosk.Server
	var media *pagemedia.Page
	var tasks sync.WaitGroup
	t.Cleanup(tasks.Wait)
	offer := func(id uint64) {
		tasks.Go(func() {
			sdp, err := media.Connect(context.Background())
			if err != nil {
				t.Errorf("offer: %v", err)
			}
			server.SendOffer(id, sdp)
		})
	}
	ids := make(chan uint64, 8)
	camera := make(chan string, 8)
	state := kiosk.State{Screen: "shut", Shutter: "shut", Windows: []directory.Window{{Room: "!a:x", Name: "Rosenwerk", Shutter: "open", Joined: true}}}
	folder := t.TempDir()
	server, err := kiosk.New(kiosk.Config{Listen: "127.0.0.1:0", DataDir: folder, Log: zerolog.Nop(), HandleMessage: func(m kiosk.Message) {
		switch m := m.(type) {
		case kiosk.PageUp:
			ids <- m.ID
			offer(m.ID)
		case kiosk.Answer:
			if err := media.Answer(m.SDP); err != nil {
				t.Errorf("answer: %v", err)
			}
		case kiosk.Camera:
			camera <- m.State
		case kiosk.Shutter:
			s := state
			if m.To == "open" {
				s.Screen, s.Shutter, s.Camera, s.Send = "visit", "open", true, true
			}
			server.SetState(s)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if media, err = pagemedia.New(pagemedia.Config{Log: zerolog.Nop(), OnEvent: func(e pagemedia.Event) {
		if e.Kind == pagemedia.Bitrate {
			server.SendBitrate(e.BPS, e.Small)
		}
	}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = media.Close() })
	server.SetState(state)
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	media.SetUplink(mirror{media})

	key, err := kiosk.ReadKey(folder)
	if err != nil {
		t.Fatal(err)
	}
	p := page.Start(t, "the test", kiosk.Address(server.Addr().String(), key))
	p.Await(t, limit, "the shut window", func(r page.Report) bool {
		return r.Screen == "shut" && r.Media && len(r.Joined) == 1 && len(r.Open) == 1
	})
	if n := p.Report().Sent; n != 0 {
		t.Errorf("the page of a shut window sent %d pictures", n)
	}
	p.Command(t, "open")
	r := p.Await(t, limit, "the mirrored picture", func(r page.Report) bool {
		return r.Screen == "visit" && r.Sent > 30 && r.Pictures > 30 && r.Sounds > 30
	})
	if r.Broken != 0 || r.First.Before(r.Pressed) || r.Last.Before(r.First) {
		t.Errorf("%+v", r)
	}
	if said := <-camera; said != "on" {
		t.Errorf("the camera is %s in an open window", said)
	}
	offer(<-ids)
	p.Await(t, limit, "pictures over another connection", func(now page.Report) bool {
		return now.Pictures > r.Pictures+60 && now.Sounds > r.Sounds+60
	})
	p.Command(t, "shut")
	if said := <-camera; said != "off" {
		t.Errorf("the camera is %s in a shut window", said)
	}
	r = p.Await(t, limit, "the shut window", func(r page.Report) bool { return r.Screen == "shut" })
	p.Await(t, limit, "the new gap", func(r page.Report) bool {
		p.Command(t, "gap") // repeated, because a picture that was on its way makes a new gap
		return r.Gap == 0
	})
	if now := p.Report(); now.Sent != r.Sent {
		t.Errorf("the page sent %d pictures after its window was shut", now.Sent-r.Sent)
	}
}

// mirror sends the page's own picture and sound back to it.
type mirror struct{ *pagemedia.Page }

func (m mirror) HandleFrame(kind track.Kind, source track.Source, f frames.Frame) {
	if kind != track.SmallVideo {
		m.WriteFrame(0, kind, kind.Codec(), source, f.Timestamp, f.Data)
	}
}

func (m mirror) HandleClock(track.Kind, track.Source, time.Time, uint32) {}

func (m mirror) HandleKeyFrameRequest(int) { m.RequestKeyFrame(track.Video) }
