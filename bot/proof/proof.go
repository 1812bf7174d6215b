// Package proof lets a device show an authorisation service of its network that it is the device itself who asks. An OpenID token proves the user only, and
// to everybody who gets one: a window also gives such tokens to the services of guests, who could use them at the services of the network.
//
// The device signs what it asks for, with its Ed25519 key, as it signs its device keys. The signature goes into the request in a header: services that do
// not know it ignore it, while they refuse bodies with members that they do not know. It holds the service's address, so that no other service can use
// it, and the OpenID token, which is good for one hour at most.
//
// No proposal has this. It imports nothing of ours, so that bot and callmedia can use it.
package proof

import (
	"crypto/sha256"
	"encoding/base64"

	"maunium.net/go/mautrix/crypto/signatures"
	"maunium.net/go/mautrix/id"
)

// Header is the request header that has the signature.
const Header = "Ewindow-Proof"

// purpose is in what is signed, so that the signature is good for nothing else.
const purpose = "org.multifactorymodel.ewindow.proof"

// Claim is what a device asks for.
type Claim struct {
	// Service is the livekit_service_url that is asked, without a slash at its end.
	Service string
	Room    id.RoomID
	User    id.UserID
	Device  id.DeviceID
	// OpenID is the OpenID token that the request has.
	OpenID string
}

// Content is the JSON object that the device signs.
func (c Claim) Content() map[string]any {
	token := sha256.Sum256([]byte(c.OpenID))
	return map[string]any{
		"purpose": purpose, "service": c.Service, "room_id": c.Room.String(), "user_id": c.User.String(), "device_id": c.Device.String(),
		"openid_token_sha256": base64.RawStdEncoding.EncodeToString(token[:]),
	}
}

// Verify says whether a signature of a claim was made with the device's key.
func (c Claim) Verify(signature string, key id.Ed25519) bool {
	content := c.Content()
	content["signatures"] = signatures.NewSingleSignature(c.User, id.KeyAlgorithmEd25519, c.Device.String(), signature)
	ok, err := signatures.VerifySignatureJSON(content, c.User, c.Device.String(), key)
	return ok && err == nil
}
