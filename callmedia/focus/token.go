package focus

import (
	"crypto/rand"
	"encoding/json"

	"github.com/livekit/protocol/auth"
	"maunium.net/go/mautrix/id"
)

// issueAttribute is the attribute (LiveKit's, visible to all in the room) in which a token says how it was issued. Participants can't change their
// attributes, and LiveKit copies them into the tokens with which it replaces those that expire.
const issueAttribute = "org.multifactorymodel.ewindow.issue"

// issue says how a token was issued, and for whom. It is what the proxy knows about somebody who joins.
type issue struct {
	// Login is another one for each token that the service signs. Who has a token with the same login is the same client: it was given to nobody
	// else.
	Login string `json:"login"`
	// User and Room are Matrix's names. The identity in a token may be a hash, and LiveKit's name of the room always is.
	User id.UserID `json:"user"`
	Room id.RoomID `json:"room"`
	// Confirmed: the user's homeserver has confirmed the device. An OpenID token proves the user only, and anybody whom the user has given it to
	// can use it.
	Confirmed bool `json:"confirmed,omitempty"`
	// Creates: the user may create the room.
	Creates bool `json:"creates,omitempty"`
	// Publishes: the user may send, and not only receive.
	Publishes bool `json:"publishes,omitempty"`
}

// text is the value of issueAttribute.
func (i issue) text() string {
	text, err := json.Marshal(i)
	if err != nil {
		return "" // texts can always be encoded
	}
	return string(text)
}

// readIssue reads a value of issueAttribute. The zero issue is what a token of somebody else says.
func readIssue(text string) (i issue) {
	if json.Unmarshal([]byte(text), &i) != nil {
		return issue{}
	}
	return i
}

// sign makes a token that lets a participant enter a room. It never lets them create one: the proxy does that for those who may.
func sign(key, secret, room, identity string, how issue) (string, error) {
	how.Login = rand.Text()
	yes, no := true, false
	return auth.NewAccessToken(key, secret).SetIdentity(identity).SetValidFor(tokenLifetime).
		SetAttributes(map[string]string{issueAttribute: how.text()}).
		SetVideoGrant(&auth.VideoGrant{Room: room, RoomJoin: true, CanPublish: &how.Publishes, CanPublishData: &how.Publishes, CanSubscribe: &yes, CanUpdateOwnMetadata: &no}).
		ToJWT()
}

// join is what a valid token says.
type join struct {
	room, identity string
	issue
}

// verify reads a token of ours. LiveKit checks it in the same way.
func verify(key, secret, token string) (join, bool) {
	parsed, err := auth.ParseAPIToken(token)
	if err != nil || parsed.APIKey() != key {
		return join{}, false
	}
	_, grants, err := parsed.Verify(secret)
	if err != nil || grants.Video == nil {
		return join{}, false
	}
	return join{grants.Video.Room, grants.Identity, readIssue(grants.Attributes[issueAttribute])}, true
}
