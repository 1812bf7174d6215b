package transport

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	"maunium.net/go/mautrix/id"
)

// Identity is the LiveKit identity of a device whose membership is a state event. The authorisation service gives it at /sfu/get.
func Identity(user id.UserID, device id.DeviceID) string {
	return user.String() + ":" + device.String()
}

// HashedIdentity is the LiveKit identity of a sticky membership (MSC4195). The authorisation service gives it at /get_token.
func HashedIdentity(user id.UserID, device id.DeviceID, memberID string) string {
	return hashNames(user.String(), device.String(), memberID)
}

// hashNames is unpadded base64 of SHA-256 over the JSON array of the names, written as JavaScript writes it.
func hashNames(names ...string) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // JavaScript does not escape <, > and &, and the hash must be the same
	if err := encoder.Encode(names); err != nil {
		return "" // strings can always be encoded
	}
	sum := sha256.Sum256(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}
