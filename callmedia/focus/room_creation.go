package focus

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
)

const (
	// emptyTimeout and departureTimeout are how long a room without participants stays, in seconds: before the first one came, and
	// after the last one left.
	emptyTimeout, departureTimeout = 300, 20
	// liveKitLimit bounds one request to LiveKit's API.
	liveKitLimit = 10 * time.Second
)

// roomCreators says whose users may create SFU rooms: those of all homeservers, or of listed ones.
type roomCreators struct {
	all    bool
	listed map[string]bool // by server name
}

// newRoomCreators reads a list of server names; "*" alone stands for all.
func newRoomCreators(names []string) (roomCreators, error) {
	c := roomCreators{all: slices.Contains(names, "*"), listed: make(map[string]bool)}
	if c.all && len(names) > 1 {
		return c, errors.New("full access for all (*) and for listed homeservers at once")
	}
	for _, name := range names {
		if !c.all && !validServerName(name) {
			return c, fmt.Errorf("full access for %q, which is not a server name", name)
		}
		c.listed[name] = !c.all
	}
	return c, nil
}

// mayCreate says whether a homeserver's users may create rooms.
func (c roomCreators) mayCreate(server string) bool { return c.all || c.listed[server] }

// newRoomService makes a client for LiveKit's API.
func newRoomService(address, key, secret string) livekit.RoomService {
	transport := &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}
	return livekit.NewRoomServiceProtobufClient(address, &http.Client{
		Timeout: liveKitLimit, Transport: &apiSigner{next: transport, key: key, secret: secret},
	})
}

// createRoom creates a room, or does nothing if it exists.
func createRoom(ctx context.Context, rooms livekit.RoomService, name string) error {
	_, err := rooms.CreateRoom(ctx, &livekit.CreateRoomRequest{Name: name, EmptyTimeout: emptyTimeout, DepartureTimeout: departureTimeout})
	return err
}

// apiSigner signs requests to LiveKit's API with a token that allows to create and to list rooms, and to list and to remove the participants of the room
// that the request's context names.
type apiSigner struct {
	next        http.RoundTripper
	key, secret string
}

// adminKey is the key under which a request's context holds the room whose participants it is about.
type adminKey struct{}

// RoundTrip implements http.RoundTripper.
func (s *apiSigner) RoundTrip(r *http.Request) (*http.Response, error) {
	grant := &auth.VideoGrant{RoomCreate: true, RoomList: true}
	if room, ok := r.Context().Value(adminKey{}).(string); ok {
		grant.RoomAdmin, grant.Room = true, room
	}
	jwt, err := auth.NewAccessToken(s.key, s.secret).SetValidFor(time.Minute).SetVideoGrant(grant).ToJWT()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+jwt)
	return s.next.RoundTrip(r)
}
