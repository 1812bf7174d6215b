package sfu

import "github.com/livekit/protocol/livekit"

// Identity is our own identity in the room, as the token says.
func (r *Room) Identity() string { return r.others.identity }

// SetMetadata asks the SFU to tell all others a text about us. We never do that, but others may.
func (r *Room) SetMetadata(text string) {
	r.post(func() {
		r.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_UpdateMetadata{UpdateMetadata: &livekit.UpdateParticipantMetadata{Metadata: text}}})
	})
}
