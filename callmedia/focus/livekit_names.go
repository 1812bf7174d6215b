package focus

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
)

// callSlot is the slot of a room's call (MSC4143). /sfu/get has no member for the slot.
const callSlot = "m.call#ROOM"

// roomName is LiveKit's name for a slot of a Matrix room (MSC4195).
func roomName(room, slot string) string { return hashed(room, slot) }

// plainIdentity is the participant identity in tokens of /sfu/get.
func plainIdentity(user, device string) string { return user + ":" + device }

// hashedIdentity is the participant identity in tokens of /get_token (MSC4195).
func hashedIdentity(user, device, member string) string { return hashed(user, device, member) }

// hashed is the SHA-256 of a JSON array of strings as JavaScript writes it, in base64 without padding.
func hashed(parts ...string) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)      // JavaScript leaves < > & as they are
	if encoder.Encode(parts) != nil { // strings can always be encoded
		return ""
	}
	sum := sha256.Sum256(bytes.TrimSuffix(text.Bytes(), []byte{'\n'}))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}
