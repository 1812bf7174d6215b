package focus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/proof"
	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
	"multifactorymodel.org/ewindow/turnserver/limit"
)

const (
	// tokenLifetime is how long a token lets somebody enter. Participants who have entered stay when it is over.
	tokenLifetime = time.Hour
	// refusalRate is how often, in Hz, the log may have a line about one homeserver that does not confirm its users.
	refusalRate = 1.0 / 3600
	// bodyLimit is how long a client may take to send its request.
	bodyLimit = 10 * time.Second
)

// ServiceConfig configures a Service. LiveKitURL, PublicURL, Key and Secret are required.
type ServiceConfig struct {
	// LiveKitURL is LiveKit's API for us (http or https). PublicURL is its signalling as clients reach it (wss; ws on one machine).
	LiveKitURL, PublicURL string
	// ServiceURL is the livekit_service_url of this service, as homeservers announce it; "" is unknown.
	ServiceURL string
	// Key and Secret are LiveKit's, for tokens.
	Key, Secret string
	// FullAccess lists the homeservers whose users may create rooms; "*" alone stands for all. Empty: nobody may.
	FullAccess []string
	// Member says whether a user is in a Matrix room for which access is given. It may wait a moment for somebody who is just joining. nil: everybody
	// gets access to every room.
	Member func(ctx context.Context, user id.UserID, room id.RoomID) bool
	// Why says in words why somebody is refused whom Member does not know, for the log. nil: nothing is known about that.
	Why func(user id.UserID, room id.RoomID) string
	// DeviceKey returns the Ed25519 key of a user's device, "" if there is none. It is asked when a request has a device's signature (package proof).
	// nil: signatures prove nothing.
	DeviceKey func(ctx context.Context, user id.UserID, device id.DeviceID) (id.Ed25519, error)
	// Window says whether a user is the kiosk of a window of the network. They can all prove more than an OpenID token does, so they must. nil: whoever
	// has done so once must do so from then on.
	Window func(user id.UserID) bool
	// Own returns the name of the hub's own homeserver, and the URL at which it serves plain HTTP on this machine. Its users are looked up there: they get
	// access even if the name leads elsewhere for others. nil, or an empty URL: there is none.
	Own func() (serverName, address string)
	// Allowed says which addresses may be connected to when a user is looked up at a homeserver; nil means public ones only. See
	// addrpolicy.Reachable for what it can't allow.
	Allowed func(netip.Addr) bool
	Log     zerolog.Logger
}

// Service is the MatrixRTC authorisation service, an http.Handler for the paths below a livekit_service_url (MSC4195). Its methods may
// be called from any goroutine. It runs nothing beside the requests that it answers.
type Service struct {
	cfg      ServiceConfig
	creators roomCreators
	rooms    livekit.RoomService
	users    *openIDLookup
	limits   limits
	refusals *limit.Rate[string] // lines in the log, by homeserver
	counts   struct{ full, restricted, bad, unauthorized, forbidden, limited, failed atomic.Uint64 }

	mu        sync.Mutex // guards what follows
	confirmed map[id.UserID]bool
	foci      map[string]ownFocus // by homeserver
}

// Stats counts requests by their outcome.
type Stats struct {
	// Full and Restricted are tokens given to users who may create rooms and to others.
	Full, Restricted uint64
	// Bad requests were malformed. Unauthorized ones named a user whom the homeserver did not confirm. Forbidden ones named a user who gets tokens in
	// another way only. Limited ones came too fast. Failed ones were right, but LiveKit did not create the room.
	Bad, Unauthorized, Forbidden, Limited, Failed uint64
}

// NewService checks the configuration.
func NewService(cfg ServiceConfig) (*Service, error) {
	if err := checkURL(cfg.LiveKitURL, "http", "https"); err != nil {
		return nil, fmt.Errorf("focus: LiveKit's address: %w", err)
	}
	if err := checkURL(cfg.PublicURL, "ws", "wss"); err != nil {
		return nil, fmt.Errorf("focus: LiveKit's public address: %w", err)
	}
	if cfg.Key == "" || len(cfg.Secret) < minSecret {
		return nil, fmt.Errorf("focus: a key and a secret of %d or more characters are needed", minSecret)
	}
	creators, err := newRoomCreators(cfg.FullAccess)
	if err != nil {
		return nil, fmt.Errorf("focus: %w", err)
	}
	if cfg.Allowed == nil {
		cfg.Allowed = addrpolicy.Public
	}
	cfg.ServiceURL = strings.TrimRight(cfg.ServiceURL, "/")
	return &Service{
		cfg: cfg, creators: creators, rooms: newRoomService(cfg.LiveKitURL, cfg.Key, cfg.Secret), users: newOpenIDLookup(cfg.Allowed, nil, cfg.Own),
		limits: newLimits(), refusals: limit.NewRate[string](refusalRate, 1), confirmed: make(map[id.UserID]bool), foci: make(map[string]ownFocus),
	}, nil
}

func checkURL(text string, schemes ...string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !slices.Contains(schemes, u.Scheme) {
		return fmt.Errorf("it must be a URL that begins with %s://", schemes[len(schemes)-1])
	}
	return nil
}

// Stats returns what was counted so far.
func (s *Service) Stats() Stats {
	c := &s.counts
	return Stats{
		Full: c.full.Load(), Restricted: c.restricted.Load(), Bad: c.bad.Load(), Unauthorized: c.unauthorized.Load(),
		Forbidden: c.forbidden.Load(), Limited: c.limited.Load(), Failed: c.failed.Load(),
	}
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "POST")
	h.Set("Access-Control-Allow-Headers", "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token")
	decode := decodePlain
	switch r.URL.Path {
	case "/sfu/get":
	case "/get_token":
		decode = decodeHashed
	case "/healthz":
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			s.refuse(w, errMethod)
			return
		}
		_, _ = w.Write([]byte("{}\n"))
		return
	default:
		if r.Method == http.MethodOptions { // a preflight succeeds, so that a page sees the 404 and not a CORS error
			return
		}
		s.refuse(w, &apiError{status: http.StatusNotFound, code: "M_UNRECOGNIZED", message: "There is nothing here."})
		return
	}
	switch r.Method {
	case http.MethodOptions:
		return
	case http.MethodPost:
	default:
		s.refuse(w, errMethod)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyLimit)) // not every writer supports it
	wanted, err := decode(r.Body)
	if err != nil {
		s.counts.bad.Add(1)
		s.refuse(w, err)
		return
	}
	token, err := s.authorise(r.Context(), source(r), wanted, r.Header.Get(proof.Header))
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.answer(w, http.StatusOK, map[string]string{"url": s.cfg.PublicURL, "jwt": token})
}

var errMethod = &apiError{status: http.StatusMethodNotAllowed, code: "M_UNRECOGNIZED", message: "This method is not for this path."}

func (s *Service) refuse(w http.ResponseWriter, e *apiError) {
	body := map[string]any{"errcode": e.code, "error": e.message}
	if e.retryMS > 0 {
		body["retry_after_ms"] = e.retryMS
		w.Header().Set("Retry-After", fmt.Sprint((e.retryMS+999)/1000))
	}
	s.answer(w, e.status, body)
}

func (s *Service) answer(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte("{}")
	}
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}

// authorise looks up who asks, creates the room if that user may, and returns a token for it. signature is the device's, "" for none.
func (s *Service) authorise(ctx context.Context, source string, r tokenRequest, signature string) (string, *apiError) {
	server := r.token.MatrixServerName
	listed := s.creators.listed[server]
	if err := s.limits.allow(time.Now(), source, server, listed); err != nil {
		s.counts.limited.Add(1)
		s.cfg.Log.Debug().Str("server_name", server).Str("remote_addr", source).Msg("A request for access came too fast")
		return "", err
	}
	lookups := s.limits.lookups(listed)
	if !lookups.TryAcquire(server) {
		s.counts.limited.Add(1)
		return "", tooMany(time.Second)
	}
	user, err := s.users.user(ctx, server, r.token.AccessToken)
	lookups.Release(server)
	if err == nil && r.claimed != "" && r.claimed != user {
		err = errors.New("the claimed user is another one")
	}
	if err != nil {
		s.counts.unauthorized.Add(1)
		level := zerolog.DebugLevel
		if s.refusals.Allow(time.Now(), server) {
			level = zerolog.InfoLevel
		}
		s.cfg.Log.WithLevel(level).Err(err).Str("server_name", server).Str("remote_addr", source).
			Msg("Access was refused: the homeserver does not confirm who asks")
		return "", errUnauthorized
	}
	if err := s.demandMember(ctx, user, r.room); err != nil {
		return "", err
	}
	proven := s.proven(ctx, user, r, signature)
	if proven {
		s.confirm(user)
	} else if s.isConfirmed(user) || s.cfg.Window != nil && s.cfg.Window(user) {
		s.counts.forbidden.Add(1)
		s.cfg.Log.Warn().Stringer("user_id", user).Str("remote_addr", source).
			Msg("An OpenID token was refused: this user gets tokens through their homeserver, or for a device that signs its request")
		return "", errForbidden
	}
	return s.issue(ctx, r.name, r.identity(user), issue{User: user, Room: r.room, Confirmed: proven, Creates: s.creators.mayCreate(server), Publishes: s.mayPublish(ctx, server)})
}

// proven says whether a user's device has signed a request. What can't be found out is "no".
func (s *Service) proven(ctx context.Context, user id.UserID, r tokenRequest, signature string) bool {
	if signature == "" || s.cfg.DeviceKey == nil || s.cfg.ServiceURL == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	key, err := s.cfg.DeviceKey(ctx, user, r.device)
	claim := proof.Claim{Service: s.cfg.ServiceURL, Room: r.room, User: user, Device: r.device, OpenID: r.token.AccessToken}
	if err == nil && key != "" && claim.Verify(signature, key) {
		return true
	}
	s.cfg.Log.Info().Err(err).Stringer("user_id", user).Stringer("device_id", r.device).Msg("A device's signature proves nothing: its key is not known, or another one")
	return false
}

// demandMember refuses whoever is not in a room.
func (s *Service) demandMember(ctx context.Context, user id.UserID, room id.RoomID) *apiError {
	if s.cfg.Member == nil || s.cfg.Member(ctx, user, room) {
		return nil
	}
	s.counts.forbidden.Add(1)
	why := ""
	if s.cfg.Why != nil {
		why = s.cfg.Why(user, room)
	}
	s.cfg.Log.Info().Stringer("user_id", user).Stringer("room_id", room).Str("why", why).Msg("Access was refused: the user is not in such a room of the network")
	return errNoMember
}

// errNoRoom is lk-jwt-service's answer when LiveKit does not work.
var (
	errForbidden = &apiError{status: http.StatusForbidden, code: "M_FORBIDDEN", message: "This user gets tokens through their homeserver, or for a device that signs its request."}
	errNoMember  = &apiError{status: http.StatusForbidden, code: "M_FORBIDDEN", message: "You are not in this room, or it is not one of this network."}
	errNoRoom    = &apiError{status: http.StatusInternalServerError, code: "M_UNKNOWN", message: "Unable to create room on SFU."}
	errNoToken   = &apiError{status: http.StatusInternalServerError, code: "M_UNKNOWN", message: "Unable to sign a token."}
)

// issue makes a token for LiveKit's room of a name, which is created first if the user may do that.
func (s *Service) issue(ctx context.Context, name, identity string, how issue) (string, *apiError) {
	if how.Creates {
		if err := createRoom(ctx, s.rooms, name); err != nil {
			s.counts.failed.Add(1)
			s.cfg.Log.Error().Err(err).Msg("LiveKit did not make a room: it may be down, or its key and secret may be others than ours")
			return "", errNoRoom
		}
		s.counts.full.Add(1)
	} else {
		s.counts.restricted.Add(1)
	}
	jwt, err := sign(s.cfg.Key, s.cfg.Secret, name, identity, how)
	if err != nil {
		s.counts.failed.Add(1)
		s.cfg.Log.Error().Err(err).Msg("A token could not be signed")
		return "", errNoToken
	}
	s.cfg.Log.Debug().Stringer("user_id", how.User).Bool("full_access", how.Creates).Bool("confirmed", how.Confirmed).Msg("Access was given")
	return jwt, nil
}
