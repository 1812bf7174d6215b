package sfu

import "github.com/livekit/protocol/livekit"

// SetMetadata asks the SFU to tell all others a text about us. We never do that, but others may.
func (r *Room) SetMetadata(text string) {
	r.post(func() {
		r.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_UpdateMetadata{UpdateMetadata: &livekit.UpdateParticipantMetadata{Metadata: text}}})
	})
}
