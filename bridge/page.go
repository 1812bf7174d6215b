package bridge

import (
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/callmedia/page"
)

// If offers do not lead to a media connection, the wait before the next offer grows from minOfferWait to maxOfferWait.
const (
	minOfferWait = time.Second
	maxOfferWait = 10 * time.Second
)

// handlePage handles a message of the page.
func (b *Bridge) handlePage(msg kiosk.Message) {
	now := b.now()
	switch msg := msg.(type) {
	case kiosk.PageUp:
		b.page = msg.ID
		b.rules.SetPage(now, true)
		b.rules.PageRemembers(now, msg.Shutter)
		b.offerNow(now)
	case kiosk.PageDown:
		if msg.ID == b.page {
			b.page = 0
			b.rules.SetPage(now, false)
			b.onPage(b.cfg.Page.Disconnect)
		}
	case kiosk.Answer:
		if msg.ID != b.page {
			return
		}
		b.onPage(func() {
			if err := b.cfg.Page.Answer(msg.SDP); err != nil {
				b.cfg.Log.Warn().Err(err).Msg("The page's answer could not be used")
			}
		})
	case kiosk.Shutter:
		b.rules.SetShutter(now, msg.To)
		if msg.To == directory.Open && msg.Room != "" {
			b.rules.Choose(id.RoomID(msg.Room))
		}
	case kiosk.RingPeople:
		if msg.Start {
			b.rules.StartRinging(now)
		} else {
			b.rules.StopRinging(now)
		}
	case kiosk.KnockAnswer:
		b.rules.AnswerKnock(now, msg.ID, msg.LetIn)
	case kiosk.LetTalk:
		b.rules.LetTalk(now, msg.User)
	case kiosk.IdentityAnswer:
		b.rules.AnswerIdentity(now, msg.User, msg.Key, msg.Confirmed)
	case kiosk.VerifyAnswer:
		b.rules.AnswerComparison(now, msg.ID, msg.Same)
	case kiosk.Camera:
		b.rules.SetCamera(now, msg.State, msg.Code)
		if msg.State == "fault" {
			b.cfg.Log.Warn().Str("code", msg.Code).Msg("The page's camera or microphone does not work, it will be tried again")
		}
	case kiosk.Picture:
		b.cfg.Log.Debug().Int("tile", msg.Tile).Bool("playing", msg.Playing).Uint64("frames", msg.Frames).Msg("Picture on the page")
	}
}

// handleMedia handles an event of the page's peer connection.
func (b *Bridge) handleMedia(e page.Event) {
	switch e.Kind {
	case page.Connected:
		b.offerFailed = false
		b.offerBackoff.Reset()
	case page.Disconnected:
		// If the page is still there, only its connection broke: the PC was asleep, or lost a network interface.
		if b.page != 0 {
			b.offerAgain()
		}
	case page.Bitrate:
		b.cfg.Screen.SendBitrate(e.BPS, e.Small)
	}
}

// onPage calls f in another goroutine, after all earlier ones have returned. Run must not wait for the page's connection.
func (b *Bridge) onPage(f func()) {
	before, done := b.pageWork, make(chan struct{})
	b.pageWork = done
	b.tasks.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		f()
	})
}

// offer makes a new peer connection for a page that has come, or whose connection broke.
func (b *Bridge) offer() {
	to := b.page
	b.offerAt = time.Time{}
	b.onPage(func() {
		sdp, err := b.cfg.Page.Connect(b.ctx)
		b.queue.Put(func() {
			if to != b.page {
				return
			}
			if err != nil {
				b.cfg.Log.Error().Err(err).Msg("No media connection to the page can be offered, it will be tried again")
				b.offerAgain()
				return
			}
			b.cfg.Screen.SendOffer(to, sdp)
		})
	})
}

// offerNow offers a connection to a page that has just come.
func (b *Bridge) offerNow(now time.Time) {
	b.offerFailed = false
	b.offerBackoff.Reset()
	b.offerAt = now
}

// offerAgain offers another connection: at once the first time, then after longer and longer waits.
func (b *Bridge) offerAgain() {
	b.offerAt = b.now()
	if b.offerFailed {
		b.offerAt = b.offerAt.Add(b.offerBackoff.Next())
	}
	b.offerFailed = true
}
