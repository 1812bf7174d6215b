package kiosk

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"multifactorymodel.org/ewindow/bot/directory"
)

// State is everything that the page shows. It is always sent whole. Times are rounded to milliseconds on their way.
type State struct {
	// Screen is "shut", "alone", "ajar", "knocked", "ringing", "opening", "visit", "lost" or "fault".
	Screen string
	// Name is this window's.
	Name string
	// Shutter is where the shutter is.
	Shutter directory.Shutter
	// Since is when the screen's situation began, zero for unknown.
	Since time.Time
	// CountUntil is when the countdown ends, "3, 2, 1" or that of a knock or of ringing; zero when there is none.
	CountUntil time.Time
	// Camera asks the page for camera and microphone, Send for their tracks on the peer connection.
	Camera, Send bool
	// Seen says that the others get our picture now.
	Seen bool
	// Held says that nothing is sent because nobody else's camera is on, though they may be well connected. Withheld are the names of those
	// who neither see nor hear us, since their owner has not confirmed their device.
	Held     bool
	Withheld []string
	// Peer is the other window, or the guest, in the big picture; nil for none.
	Peer *Person
	// Guests are the people who came from Element.
	Guests []Person
	// Shared is who shares a screen, with the screen's slot, nil for nobody. It is the big picture as long as it lasts.
	Shared *Person
	// Knock is who wants in, nil for nobody.
	Knock *Knock
	// CanRing says that the window's people can be rung now, Ring what becomes of it; nil for nothing.
	CanRing bool
	Ring    *Ring
	// Missed are those who knocked at the shut window, the newest first.
	Missed []Missed
	// Windows are the network's other windows.
	Windows []directory.Window
	// Fault is what keeps the window from working, nil for nothing.
	Fault *Fault
	// TestPattern replaces camera and microphone by a test card and a tone.
	TestPattern bool
	// Languages are those of the page, the first one leads. Timezone is an IANA name for the clock.
	Languages []string
	Timezone  string
}

// Person is somebody who is seen.
type Person struct {
	Name string `json:"name"`
	// Slot is the place of the picture among the peer connection's streams, -1 while there is none.
	Slot int `json:"slot"`
}

// Knock is somebody who wants in.
type Knock struct {
	// ID numbers the knocks: the same person who comes again has another one.
	ID   uint64 `json:"id"`
	Name string `json:"name"`
	// Guest says that it is somebody in Element, not a window.
	Guest bool `json:"guest"`
	// Others are the names of the others in the same call, who would see us as well.
	Others []string `json:"others"`
}

// Ring is what becomes of ringing the window's people in Element.
type Ring struct {
	// Status is "ringing", or for a while after it "nobody" answered, all "declined", it "failed", or there are "no_people" to be rung.
	Status string `json:"status"`
	// Declined are the names of those who do not come.
	Declined []string `json:"declined"`
}

// Missed is somebody who knocked at the shut window at a time.
type Missed struct {
	Name  string
	Guest bool
	At    time.Time
}

// Fault is what keeps the window from working.
type Fault struct {
	// Code is one of "no_camera", "camera_busy", "camera_denied", "no_microphone", "page", "homeserver", "hub",
	// "network_not_joined", "clock" and "not_trusted". The page has a sentence for each in each language.
	Code  string
	Since time.Time
	// Detail is shown beside the sentence as it is, such as the user id to be invited. It may be empty.
	Detail string
}

// Equal says whether both states look the same on the page.
func (s State) Equal(o State) bool {
	return reflect.DeepEqual(s.wire(time.Time{}), o.wire(time.Time{}))
}

// stateMessage is a State on the wire. Moments are Unix milliseconds, 0 for none.
type stateMessage struct {
	Type    string `json:"type"`
	Version int    `json:"version"`
	// Page names the version of the page's files: when it changes, the page loads itself anew.
	Page        string             `json:"page,omitempty"`
	Screen      string             `json:"screen"`
	Name        string             `json:"name"`
	Shutter     directory.Shutter  `json:"shutter"`
	Since       int64              `json:"since"`
	CountMS     int64              `json:"count_ms"` // what is left of the countdown
	Camera      bool               `json:"camera"`
	Send        bool               `json:"send"`
	Seen        bool               `json:"seen"`
	Held        bool               `json:"held"`
	Withheld    []string           `json:"withheld"`
	Peer        *Person            `json:"peer"`
	Guests      []Person           `json:"guests"`
	Shared      *Person            `json:"shared"`
	Knock       *Knock             `json:"knock"`
	CanRing     bool               `json:"can_ring"`
	Ring        *Ring              `json:"ring"`
	Missed      []missedMessage    `json:"missed"`
	Windows     []directory.Window `json:"windows"`
	Fault       *faultMessage      `json:"fault"`
	TestPattern bool               `json:"test_pattern"`
	Languages   []string           `json:"languages"`
	Timezone    string             `json:"timezone"`
	Now         int64              `json:"now"`
}

type missedMessage struct {
	Name  string `json:"name"`
	Guest bool   `json:"guest"`
	At    int64  `json:"at"`
}

type faultMessage struct {
	Code   string `json:"code"`
	Since  int64  `json:"since"`
	Detail string `json:"detail"`
}

// wire makes the message as it is at now. The zero time makes one for comparing, with the countdown's end in CountMS.
func (s State) wire(now time.Time) stateMessage {
	m := stateMessage{
		Type: "state", Version: protocolVersion,
		Screen: s.Screen, Name: s.Name, Shutter: s.Shutter, Since: millis(s.Since), CountMS: millis(s.CountUntil),
		Camera: s.Camera, Send: s.Send, Seen: s.Seen, Held: s.Held, Withheld: append([]string{}, s.Withheld...),
		// Empty lists, not null, so that the page needs no case for it.
		Guests: append([]Person{}, s.Guests...), Windows: append([]directory.Window{}, s.Windows...), Missed: []missedMessage{}, CanRing: s.CanRing,
		TestPattern: s.TestPattern, Languages: append([]string{}, s.Languages...), Timezone: s.Timezone, Now: millis(now),
	}
	if !now.IsZero() {
		m.CountMS = 0
		if !s.CountUntil.IsZero() {
			m.CountMS = max(s.CountUntil.Sub(now).Milliseconds(), 0)
		}
	}
	if s.Peer != nil {
		peer := *s.Peer
		m.Peer = &peer
	}
	if s.Shared != nil {
		shared := *s.Shared
		m.Shared = &shared
	}
	if s.Knock != nil {
		knock := *s.Knock
		knock.Others = append([]string{}, knock.Others...)
		m.Knock = &knock
	}
	if s.Ring != nil {
		m.Ring = &Ring{s.Ring.Status, append([]string{}, s.Ring.Declined...)}
	}
	for _, o := range s.Missed {
		m.Missed = append(m.Missed, missedMessage{o.Name, o.Guest, millis(o.At)})
	}
	if s.Fault != nil {
		m.Fault = &faultMessage{s.Fault.Code, millis(s.Fault.Since), s.Fault.Detail}
	}
	return m
}

// state is the inverse of wire, for a message that arrived at now.
func (m stateMessage) state(now time.Time) State {
	s := State{
		Screen: m.Screen, Name: m.Name, Shutter: m.Shutter, Since: moment(m.Since), Camera: m.Camera, Send: m.Send, Seen: m.Seen,
		Held: m.Held, Withheld: m.Withheld,
		Peer: m.Peer, Guests: m.Guests, Shared: m.Shared, Knock: m.Knock, CanRing: m.CanRing, Ring: m.Ring,
		Windows: m.Windows, TestPattern: m.TestPattern, Languages: m.Languages, Timezone: m.Timezone,
	}
	if m.CountMS > 0 {
		s.CountUntil = now.Add(time.Duration(m.CountMS) * time.Millisecond)
	}
	for _, o := range m.Missed {
		s.Missed = append(s.Missed, Missed{o.Name, o.Guest, moment(o.At)})
	}
	if m.Fault != nil {
		s.Fault = &Fault{m.Fault.Code, moment(m.Fault.Since), m.Fault.Detail}
	}
	return s
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// encode makes a text message. What it is given always has a JSON form.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("kiosk: encode %T: %v", v, err))
	}
	return data
}
