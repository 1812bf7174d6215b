package focus

import (
	"crypto/rand"
	"strings"

	"github.com/livekit/protocol/auth"
)

// issueAttribute is the attribute (LiveKit's, visible to all in the room) in which a token says how it was issued. Participants can't change their
// attributes, and LiveKit copies them into the tokens with which it replaces those that expire.
const issueAttribute = "org.multifactorymodel.ewindow.issue"

// issue says how a token was issued. It is what the proxy knows about somebody who joins.
type issue struct {
	// login is another one for each token that the service signs. Who has a token with the same login is the same client: it was given to nobody
	// else.
	login string
	// confirmed: the user's homeserver has confirmed the device. An OpenID token proves the user only, and anybody whom the user has given it to
	// can use it.
	confirmed bool
	// creates: the user may create the room.
	creates bool
}

// text is the value of issueAttribute.
func (i issue) text() string {
	var flags strings.Builder
	if i.confirmed {
		flags.WriteByte('c')
	}
	if i.creates {
		flags.WriteByte('r')
	}
	return flags.String() + "." + i.login
}

// readIssue reads a value of issueAttribute. The zero issue is what a token of somebody else says.
func readIssue(text string) issue {
	flags, login, _ := strings.Cut(text, ".")
	return issue{login: login, confirmed: strings.Contains(flags, "c"), creates: strings.Contains(flags, "r")}
}

// sign makes a token that lets a participant enter a room. It never lets them create one: the proxy does that for those who may.
func sign(key, secret, room, identity string, how issue) (string, error) {
	how.login = rand.Text()
	yes, no := true, false
	return auth.NewAccessToken(key, secret).SetIdentity(identity).SetValidFor(tokenLifetime).
		SetAttributes(map[string]string{issueAttribute: how.text()}).
		SetVideoGrant(&auth.VideoGrant{Room: room, RoomJoin: true, CanPublish: &yes, CanSubscribe: &yes, CanUpdateOwnMetadata: &no}).
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
