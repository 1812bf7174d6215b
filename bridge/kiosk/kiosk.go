// Package kiosk serves the page on a window's screen, and talks to it.
//
// Start with [New], [Server.Start] and [Server.SetState]; what people and the browser do comes back as a [Message]. The local
// command line looks at the same state with [Dial].
//
// The page is static files and one WebSocket, /ws, that carries JSON text messages:
//
//	page → server  hello{version, role, shutter}  first message; role "page" or "observer"
//	               answer{id, sdp}                to the offer with the same id
//	               shutter{to, room}              open, ajar or shut: a press on the button, or a window chosen
//	               knock{id, let_in}              the answer to the knock with this id
//	               ring{to}                       start or cancel ringing the window's people in Element
//	               camera{state, code}            on, off, or fault with its reason
//	               picture{slot, playing, frames} another's picture is rendered, or has stood still for two seconds
//	server → page  state{…}                       everything that is shown, whole, each time something in it changed
//	               offer{id, sdp}                 a new peer connection, without trickled candidates
//	               bitrate{bps, small}            limits for the camera's picture and for the same in small; 0: not wanted
//	               replaced{}                     a newer page took over: stop
//
// Close codes: 4000 after replaced{}, 4001 for another version (the page loads itself anew), 1008 and 1009 for what is no message.
//
// One page is served at a time, the newest; observers see the state and may press the button. The package holds no policy: it
// knows neither what a state means nor whether a press is granted. Whoever can reach the page can open the window, so the server
// binds loopback addresses only and refuses requests that a foreign web site could cause (Host and Origin, RFC 6454).
package kiosk

import "multifactorymodel.org/ewindow/bot/directory"

// protocolVersion is that of the messages above. A page that speaks another one is told to load itself anew.
const protocolVersion = 1

// Message is something that the page did: one of [PageUp], [PageDown], [Answer], [Shutter], [KnockAnswer],
// [RingPeople], [Camera] and [Picture].
type Message interface{ message() }

// PageUp says that a page has connected and is the one on the screen now.
type PageUp struct {
	// ID numbers the pages, from 1.
	ID uint64
	// Shutter is where it was, as the page remembers it since before a reload or a restart of this program.
	Shutter directory.Shutter
}

// PageDown says that the page is gone or was replaced. It comes before the next PageUp.
type PageDown struct{ ID uint64 }

// Answer is the page's SDP answer (RFC 3264) to the last offer.
type Answer struct {
	// ID is the page's.
	ID  uint64
	SDP string
}

// Shutter says that somebody pressed the button, or chose the window of Room.
type Shutter struct {
	// To is where the shutter is set to.
	To directory.Shutter
	// Room is the chosen window's room id as the page was told it, or empty.
	Room string
}

// KnockAnswer says that somebody at the window answered a knock.
type KnockAnswer struct {
	// ID is that of the [Knock] which the page showed.
	ID uint64
	// LetIn says yes; else it is "not now".
	LetIn bool
}

// RingPeople says that somebody wants to ring the window's people in Element, or to stop that.
type RingPeople struct{ Start bool }

// Camera says what became of the page's camera and microphone.
type Camera struct {
	// State is "on", "off" or "fault".
	State string
	// Code says why it is a fault: "none" (no camera), "busy", "denied", "no_microphone" or "other". Else it is empty.
	Code string
}

// Picture says whether a slot's picture is moving on the page.
type Picture struct {
	Slot    int
	Playing bool
	// Frames counts the rendered frames since the page's peer connection was made.
	Frames uint64
}

func (PageUp) message()      {}
func (PageDown) message()    {}
func (Answer) message()      {}
func (Shutter) message()     {}
func (KnockAnswer) message() {}
func (RingPeople) message()  {}
func (Camera) message()      {}
func (Picture) message()     {}
