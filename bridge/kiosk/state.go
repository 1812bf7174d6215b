package kiosk

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"go.mau.fi/util/jsontime"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/window"
)

// State is everything that the page shows. It is always sent as a whole, with its fields in this order. In the message, times are
// milliseconds since 1970, 0 for none.
type State struct {
	Screen window.Screen `json:"screen"`
	// Name is this window's name.
	Name string `json:"name"`
	// Shutter is the position of the shutter.
	Shutter directory.Shutter `json:"shutter"`
	// Since is when the state that the screen shows began, zero for unknown.
	Since jsontime.UnixMilli `json:"since"`
	// CountUntil is when the countdown on the screen ends: "3, 2, 1", a knock's or that of ringing. Zero means that there is none.
	CountUntil time.Time `json:"-"`
	// CountMS is what is left of the countdown, in milliseconds. It is set in messages only: the page has a clock of its own.
	CountMS int64 `json:"count_ms"`
	// Camera asks the page for camera and microphone, Send for their tracks on the peer connection.
	Camera bool `json:"camera"`
	Send   bool `json:"send"`
	// Seen says that the others get our picture now.
	Seen bool `json:"seen"`
	// Held says that nothing is sent because nobody else's camera is on. Trials says that our picture goes out for a moment now and then,
	// although nobody is seen.
	Held bool `json:"held"`
	// Line says where the line of a visit is slow: "here" or "there". Empty means nowhere.
	Line   string `json:"line"`
	Trials bool   `json:"trials"`
	// Withheld are the names of the people who neither see nor hear us because they have not verified their device, Renewed of those who don't
	// because their identity is new, and Unseen of those who don't because they are not seen. Unshown are those whose pictures are in a codec that
	// can't be shown. Allowed are the people who see us without being seen.
	Withheld List[string] `json:"withheld"`
	Renewed  List[string] `json:"renewed"`
	Unseen   List[string] `json:"unseen"`
	Unshown  List[string] `json:"unshown"`
	Allowed  List[string] `json:"allowed"`
	// Voice is the guest whom people may let talk without a picture, nil for nobody. Talking are the names of the guests who do, while Held.
	Voice   *Voice       `json:"voice"`
	Talking List[string] `json:"talking"`
	// Peer is the other window, or the guest, in the big picture; nil for none.
	Peer *Person `json:"peer"`
	// Guests are the others in the call: people with Element, and third windows, whose pictures are not shown.
	Guests List[Person] `json:"guests"`
	// More is how many people are in the call besides, without a name, who neither see nor hear us. Stranger says that somebody is at the SFU whom
	// nobody knows.
	More     int  `json:"more"`
	Stranger bool `json:"stranger"`
	// Shared is who shares a screen, with the screen's tile; nil for nobody. The shared screen is the big picture.
	Shared *Person `json:"shared"`
	// Identity is the new identity that people are asked about, nil for none.
	Identity *Identity `json:"identity"`
	// Verify is the emoji to be compared, nil for none.
	Verify *Verify `json:"verify"`
	// Knock is who wants in, nil for nobody.
	Knock *Knock `json:"knock"`
	// CanRing says that the window's people can be rung now. Ring is the state or the result of ringing, nil for none.
	CanRing bool  `json:"can_ring"`
	Ring    *Ring `json:"ring"`
	// Missed are the people whose knocks nobody answered, the newest first.
	Missed List[Missed] `json:"missed"`
	// Windows are the network's other windows.
	Windows List[directory.Window] `json:"windows"`
	// Fault is what keeps the window from working, nil for nothing.
	Fault *Fault `json:"fault"`
	// TestPattern replaces camera and microphone by a test card and a tone.
	TestPattern bool `json:"test_pattern"`
	// Languages are the page's languages, the most important one first. Timezone is the IANA name for the clock.
	Languages List[string] `json:"languages"`
	Timezone  string       `json:"timezone"`
}

// List is a list that is never null in a message, so that the page needs no special case.
type List[T any] []T

// MarshalJSON writes an empty list for nil.
func (l List[T]) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]T(l))
}

// Person is a window or a guest in the call, as the page names them.
type Person struct {
	Name string `json:"name"`
	// Tile numbers the picture among the streams of the peer connection, -1 while there is none.
	Tile int `json:"tile"`
}

// Voice is a guest whom people at the window may let talk without a picture.
type Voice struct {
	User id.UserID `json:"user"`
	Name string    `json:"name"`
}

// Identity is the new identity of a window or a guest.
type Identity struct {
	User id.UserID  `json:"user"`
	Key  id.Ed25519 `json:"key"`
	Name string     `json:"name"`
	// Guest says that it is somebody in Element, not a window.
	Guest bool `json:"guest"`
}

// Verify is emoji that are compared with those of an admin's Element.
type Verify struct {
	// ID numbers the comparisons.
	ID uint64 `json:"id"`
	// Name is the admin's.
	Name string `json:"name"`
	// Symbols are the emoji, and Names their English names.
	Symbols List[string] `json:"symbols"`
	Names   List[string] `json:"names"`
}

// Knock is somebody who wants in.
type Knock struct {
	// ID numbers the knocks: when the same person comes again, it is another knock.
	ID   uint64 `json:"id"`
	Name string `json:"name"`
	// Guest says that it is somebody in Element, not a window.
	Guest bool `json:"guest"`
	// Others are the names of the others in the same call. They would see us as well.
	Others List[string] `json:"others"`
}

// Ring is the state or the result of ringing the window's people in Element.
type Ring struct {
	Status window.RingStatus `json:"status"`
	// Declined are the names of the people who do not come.
	Declined List[string] `json:"declined"`
}

// Missed is a person or a window whose knock nobody answered.
type Missed struct {
	Name string `json:"name"`
	// Guest says that it is somebody in Element, not a window.
	Guest bool               `json:"guest"`
	At    jsontime.UnixMilli `json:"at"`
}

// Fault is what keeps the window from working. The page has a sentence for each code in each language.
type Fault struct {
	Code  window.Fault       `json:"code"`
	Since jsontime.UnixMilli `json:"since"`
	// Detail is shown beside the sentence as it is, such as the user id to be invited. It may be empty.
	Detail string `json:"detail"`
}

// stateMessage is the message that carries a State.
type stateMessage struct {
	Type    string `json:"type"`
	Version int    `json:"version"`
	// Page is a hash of the page's files: when it changes, the page reloads itself.
	Page string `json:"page,omitempty"`
	State
	Now jsontime.UnixMilli `json:"now"`
}

// message is the state as it is sent at now.
func (s State) message(now time.Time) stateMessage {
	s.CountMS = 0
	if !s.CountUntil.IsZero() {
		s.CountMS = max(s.CountUntil.Sub(now).Milliseconds(), 0)
	}
	return stateMessage{Type: "state", Version: protocolVersion, State: s, Now: jsontime.UM(now)}
}

// state is the state in a message that arrived at now.
func (m stateMessage) state(now time.Time) State {
	if m.CountMS > 0 {
		m.CountUntil = now.Add(time.Duration(m.CountMS) * time.Millisecond)
	}
	return m.State
}

// Equal says whether both states look the same on the page, whenever they are sent.
func (s State) Equal(o State) bool {
	s.CountMS, o.CountMS = jsontime.UM(s.CountUntil).UnixMilli(), jsontime.UM(o.CountUntil).UnixMilli()
	return sameLook(reflect.ValueOf(s), reflect.ValueOf(o))
}

// sameLook compares two values of one type as a message would show them: times count to the millisecond, an empty list is the same as no
// list, and fields that are not sent do not count. It is a lot faster than encoding both values.
func sameLook(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return sameLook(a.Elem(), b.Elem())
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !sameLook(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Struct:
		if t, ok := a.Interface().(jsontime.UnixMilli); ok {
			return t.UnixMilli() == b.Interface().(jsontime.UnixMilli).UnixMilli()
		}
		for i := range a.NumField() {
			if a.Type().Field(i).Tag.Get("json") != "-" && !sameLook(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	}
	return a.Equal(b)
}

// encode makes a text message. All its callers pass values that have a JSON form.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("kiosk: encode %T: %v", v, err))
	}
	return data
}
