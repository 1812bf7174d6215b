// Package kiosk serves the page on a window's screen, and talks to it.
//
// Start with [New], [Server.Start] and [Server.SetState]. What people and the browser do comes back as a [Message]. The local command
// line reads the same state with [Dial].
//
// The page is static files and one WebSocket, /ws, that carries JSON text messages:
//
//	page → server  hello{version, role, shutter}  first message; role "page" or "observer"
//	               answer{id, sdp}                to the offer with the same id
//	               shutter{to, room}              open, ajar or shut: a press on the button; room: the other window to call first
//	               knock{id, let_in}              the answer to the knock with this id
//	               identity{user, key, confirmed} the answer about the new identity that is shown
//	               verify{id, same}               whether the emoji that are shown are the same
//	               ring{to}                       start or cancel ringing the window's people in Element
//	               camera{state, code}            on, off, or fault with its reason
//	               picture{tile, playing, frames} another's picture moves, or has been still for two seconds
//	server → page  state{…}                       everything that is shown, each time something in it has changed
//	               offer{id, sdp}                 a new peer connection, without trickled candidates
//	               bitrate{bps, small}            limits of the camera's picture and of the same picture in small; 0: not wanted
//	               replaced{}                     a newer page took over: stop
//
// Close codes: 4000 after replaced{}, 4001 for another version of the protocol (the page reloads itself), 1008 and 1009 for a message
// that is not valid.
//
// One page is served at a time, the newest one. Observers see the state and may press the button. The package decides nothing: the
// rules are in package bridge/window. Whoever is the page opens the window and gets decrypted media, so the server binds loopback addresses
// only, and refuses requests that a foreign web site could cause (Host and Origin, RFC 6454). Other programs of the machine are kept out by a
// key: without it /ws answers 403. The key is in a file of the data folder. [PageFile], which the kiosk's browser opens, leads to the page's
// address with the key behind #. Both files are private, so only programs of the kiosk's own account can be the page.
//
// Files: kiosk.go has the messages, decode.go reads the page's messages, state.go is the state that the page shows. server.go owns the clients,
// client.go is one WebSocket, observer.go is a client in Go. key.go has the page's key. site.go serves the files in the folder web.
package kiosk

import (
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
)

// protocolVersion is the version of the messages above. A page with another version is told to reload itself.
const protocolVersion = 2

// Message is something that the page did: one of [PageUp], [PageDown], [Answer], [Shutter], [KnockAnswer], [LetTalk], [IdentityAnswer],
// [VerifyAnswer], [RingPeople], [Camera] and [Picture].
type Message interface{ message() }

// PageUp says that a page has connected and is the one on the screen now.
type PageUp struct {
	// ID numbers the pages, from 1.
	ID uint64
	// Shutter is the position that the page remembers from before a reload, or from before a restart of this program.
	Shutter directory.Shutter
}

// PageDown says that the page is gone or was replaced. It comes before the next PageUp.
type PageDown struct{ ID uint64 }

// Answer is the page's SDP answer (RFC 3264) to the last offer.
type Answer struct {
	// ID is the page's ID, see [PageUp].
	ID  uint64
	SDP string
}

// Shutter says that somebody pressed the button, or chose another window.
type Shutter struct {
	// To is the new position of the shutter.
	To directory.Shutter
	// Room is the room of the chosen window, as in State.Windows; empty for none. Our page never sends it.
	Room string
}

// KnockAnswer says that somebody at the window answered a knock.
type KnockAnswer struct {
	// ID is the ID of the [Knock] that the page showed.
	ID uint64
	// LetIn is true for "let in" and false for "not now".
	LetIn bool
}

// LetTalk says that somebody lets a guest talk without a picture.
type LetTalk struct {
	// User is that of the [Voice] that the page showed.
	User id.UserID
}

// IdentityAnswer says what somebody at the window said about a new identity.
type IdentityAnswer struct {
	// User and Key are those of the [Identity] that the page showed.
	User id.UserID
	Key  id.Ed25519
	// Confirmed is false for "not now".
	Confirmed bool
}

// VerifyAnswer says whether somebody at the window sees the same emoji as an admin.
type VerifyAnswer struct {
	// ID is the ID of the [Verify] that the page showed.
	ID   uint64
	Same bool
}

// RingPeople says that somebody starts or cancels ringing the window's people in Element.
type RingPeople struct{ Start bool }

// Camera reports the state of the page's camera and microphone.
type Camera struct {
	// State is "on", "off" or "fault".
	State string
	// Code is the reason of a fault: "none" (no camera), "busy", "denied", "no_microphone" or "other". Without a fault it is empty.
	Code string
}

// Picture says whether a tile's picture is moving on the page.
type Picture struct {
	Tile    int
	Playing bool
	// Frames counts the rendered frames since the page's peer connection was made.
	Frames uint64
}

func (PageUp) message()         {}
func (PageDown) message()       {}
func (Answer) message()         {}
func (Shutter) message()        {}
func (KnockAnswer) message()    {}
func (VerifyAnswer) message()   {}
func (RingPeople) message()     {}
func (IdentityAnswer) message() {}
func (LetTalk) message()        {}
func (Camera) message()         {}
func (Picture) message()        {}
