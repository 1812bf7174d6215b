package proof_test

import (
	"testing"

	"maunium.net/go/mautrix/crypto"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/proof"
)

// TestProof signs a claim with a device's account. The signature is good for this claim and this key only.
func TestProof(t *testing.T) {
	account, other := crypto.NewOlmAccount(), crypto.NewOlmAccount()
	claim := proof.Claim{Service: "https://hub.example.org/livekit/jwt", Room: "!room:example.org", User: "@window:other.example", Device: "DEVICE", OpenID: "token"}
	signature, err := account.SignJSON(claim.Content())
	if err != nil {
		t.Fatal(err)
	}
	if !claim.Verify(signature, account.SigningKey()) {
		t.Error("a good signature is refused")
	}
	if claim.Verify(signature, other.SigningKey()) || claim.Verify("", account.SigningKey()) || claim.Verify("?", account.SigningKey()) || claim.Verify(signature, "") {
		t.Error("a bad signature or key is accepted")
	}
	for what, change := range map[string]func(*proof.Claim){
		"service": func(c *proof.Claim) { c.Service = "https://elsewhere.example" },
		"room":    func(c *proof.Claim) { c.Room = "!another:example.org" },
		"user":    func(c *proof.Claim) { c.User = "@another:other.example" },
		"device":  func(c *proof.Claim) { c.Device = id.DeviceID("ANOTHER") },
		"token":   func(c *proof.Claim) { c.OpenID = "another" },
	} {
		changed := claim
		change(&changed)
		if changed.Verify(signature, account.SigningKey()) {
			t.Errorf("the signature is good for another %s, too", what)
		}
	}
}
