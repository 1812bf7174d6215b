package callmedia

// EventKind says what happened in a call's media.
type EventKind uint8

const (
	// Connected: the own SFU was joined and both tracks are published.
	Connected EventKind = iota
	// Lost: the own SFU was lost, or can't be reached; Err says why. The session tries again by itself.
	Lost
	// RemoteUp: a participant publishes a picture; Muted says whether it is muted.
	RemoteUp
	// RemoteMuted: a participant's picture was muted or unmuted.
	RemoteMuted
	// RemoteGone: a participant publishes no picture any more.
	RemoteGone
	// CodecUnknown: a participant's picture is announced in a codec that can't be shown. It comes before RemoteUp.
	CodecUnknown
	// CodecKnown: that is over. The participant's picture is in a codec that can be shown, or there is none.
	CodecKnown
	// RemoteAway: we are in the room of a participant's SFU, and the participant is not.
	RemoteAway
	// RemoteBack: the participant is there again, or we can't tell any more.
	RemoteBack
	// Arrived: somebody is in the room of an SFU that we are in, to be shown or not. Only Identity is set. It is the SFU's word, and empty
	// for those who are too many to be told apart.
	Arrived
	// Departed: that participant is in none of these rooms any more, or we can't tell.
	Departed
	// PictureOn: the first decrypted picture was handed to the page after none.
	PictureOn
	// PictureOff: no picture came for [SessionConfig.PictureLimit], or the participant is gone.
	PictureOff
	// ScreenOn: the first picture of a participant's shared screen was handed to the page. Tile is the screen's and not the
	// participant's. At most one screen is shown at a time.
	ScreenOn
	// ScreenOff: that screen is not shared any more.
	ScreenOff
	// LineChanged: the line of this window or of another one has become slow, or good again; Slow says which.
	LineChanged
)

// SessionEvent is one event of a [Session]. Identity and Tile name the participant.
type SessionEvent struct {
	Kind     EventKind
	Identity string
	Tile     int
	Muted    bool
	Err      error
	Slow     Slow
}
