package focus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
	"multifactorymodel.org/ewindow/turnserver/limit"
)

const (
	// tokenLifetime is how long a token lets somebody in. Whoever is in stays.
	tokenLifetime = time.Hour
	// bodyLimit is how long a client may take to send its request.
	bodyLimit = 10 * time.Second
	// liveKitLimit bounds one request to LiveKit's API.
	liveKitLimit = 10 * time.Second

	// A workshop behind one address joins with a few devices at a time; each of them asks again while it can't get in.
	sourceRate, sourceBurst = 2, 40
	// What we may ask of a homeserver that is not ours, on behalf of strangers.
	serverRate, serverBurst = 5, 50
	// Look-ups that go on at the same time, and those at one homeserver.
	maxLookups, maxServerLookups = 64, 16
)

// ServiceConfig is what a Service is made of. LiveKitURL, PublicURL, Key and Secret are required.
type ServiceConfig struct {
	// LiveKitURL is LiveKit's API for us (http or https), PublicURL its signalling as clients reach it (wss; ws on one machine).
	LiveKitURL, PublicURL string
	// Key and Secret are LiveKit's, for tokens.
	Key, Secret string
	// APIClosed says that nobody but this service reaches LiveKit's API. A token of somebody who may make rooms then also makes its room anew
	// after a restart of LiveKit: Element Call goes on trying with the token that it has. Where the API is open, the same would let people
	// end each other's rooms.
	APIClosed bool
	// FullAccess lists the homeservers whose users may make rooms; "*" alone stands for all. Empty: nobody may.
	FullAccess []string
	// Allowed says which addresses may be connected to when a user is looked up at a homeserver; nil means public ones only.
	// "This host" and multicast are never connected to, and an IPv6 address that holds an IPv4 one must be allowed as both.
	Allowed func(netip.Addr) bool
	Log     zerolog.Logger
}

// Service is the authorisation service, an http.Handler for the paths below a livekit_service_url. Its methods may be called from any
// goroutine. It runs nothing beside the requests that it answers.
type Service struct {
	cfg       ServiceConfig
	full      map[string]bool
	all       bool
	rooms     livekit.RoomService
	directory *directory
	sources   *limit.Rate[string]      // requests by who asks
	servers   *limit.Rate[string]      // look-ups by homeserver
	lookups   *limit.Semaphore[string] // look-ups that go on at listed homeservers
	strangers *limit.Semaphore[string] // those at others, whose slowness must not keep the former waiting
	counts    struct{ full, restricted, bad, unauthorized, limited, failed atomic.Uint64 }
}

// Stats counts requests by what became of them.
type Stats struct {
	// Full and Restricted are tokens given to users who may make rooms and to others.
	Full, Restricted uint64
	// Bad were malformed, Unauthorized named somebody whose homeserver did not confirm it, Limited came too fast, Failed were good
	// but LiveKit did not make the room.
	Bad, Unauthorized, Limited, Failed uint64
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
	s := &Service{
		cfg: cfg, full: make(map[string]bool), all: slices.Contains(cfg.FullAccess, "*"),
		sources: limit.NewRate[string](sourceRate, sourceBurst), servers: limit.NewRate[string](serverRate, serverBurst),
		lookups: limit.NewSemaphore[string](maxLookups, maxLookups), strangers: limit.NewSemaphore[string](maxLookups, maxServerLookups),
	}
	if s.all && len(cfg.FullAccess) > 1 {
		return nil, errors.New("focus: full access for all (*) and for listed homeservers at once")
	}
	for _, name := range cfg.FullAccess {
		if !s.all && !validServerName(name) {
			return nil, fmt.Errorf("focus: full access for %q, which is not a server name", name)
		}
		s.full[name] = !s.all
	}
	if cfg.Allowed == nil {
		cfg.Allowed = addrpolicy.Public
	}
	s.directory = newDirectory(cfg.Allowed, nil)
	transport := &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}
	s.rooms = livekit.NewRoomServiceProtobufClient(cfg.LiveKitURL, &http.Client{
		Timeout: liveKitLimit, Transport: &roomMaker{next: transport, key: cfg.Key, secret: cfg.Secret},
	})
	return s, nil
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
		Limited: c.limited.Load(), Failed: c.failed.Load(),
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
		if r.Method == http.MethodOptions { // browsers shall see the 404 and not a failure to ask
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
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyLimit)) // not every writer can
	wanted, err := decode(r.Body)
	if err != nil {
		s.counts.bad.Add(1)
		s.refuse(w, err)
		return
	}
	token, err := s.admit(r.Context(), source(r), wanted)
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

// admit finds out who asks, makes the room if he may, and gives a token for it.
func (s *Service) admit(ctx context.Context, source string, w wish) (string, *apiError) {
	server := w.token.MatrixServerName
	full := s.all || s.full[server]
	if err := s.limit(source, server); err != nil {
		s.counts.limited.Add(1)
		s.cfg.Log.Debug().Str("server_name", server).Str("remote_addr", source).Msg("A request for access came too fast")
		return "", err
	}
	lookups := s.strangers
	if s.full[server] {
		lookups = s.lookups
	}
	if !lookups.TryAcquire(server) {
		s.counts.limited.Add(1)
		return "", limited(time.Second)
	}
	user, err := s.directory.user(ctx, server, w.token.AccessToken)
	lookups.Release(server)
	if err == nil && w.claimed != "" && w.claimed != user {
		err = errors.New("the claimed user is another one")
	}
	if err != nil {
		s.counts.unauthorized.Add(1)
		s.cfg.Log.Debug().Err(err).Str("server_name", server).Str("remote_addr", source).Msg("Access was refused")
		return "", errUnauthorized
	}
	if full {
		_, err := s.rooms.CreateRoom(ctx, &livekit.CreateRoomRequest{
			Name: w.room, EmptyTimeout: emptyTimeout, DepartureTimeout: departureTimeout,
		})
		if err != nil {
			s.counts.failed.Add(1)
			s.cfg.Log.Error().Err(err).Msg("LiveKit did not make a room: it may be down, or its key and secret may be others than ours")
			return "", &apiError{status: http.StatusInternalServerError, code: "M_UNKNOWN", message: "Unable to create room on SFU."}
		}
		s.counts.full.Add(1)
	} else {
		s.counts.restricted.Add(1)
	}
	yes := true
	jwt, err := auth.NewAccessToken(s.cfg.Key, s.cfg.Secret).SetIdentity(w.identity(user)).SetValidFor(tokenLifetime).
		SetVideoGrant(&auth.VideoGrant{
			Room: w.room, RoomJoin: true, RoomCreate: full && s.cfg.APIClosed, CanPublish: &yes, CanSubscribe: &yes, CanUpdateOwnMetadata: &yes,
		}).
		ToJWT()
	if err != nil {
		s.counts.failed.Add(1)
		s.cfg.Log.Error().Err(err).Msg("A token could not be signed")
		return "", &apiError{status: http.StatusInternalServerError, code: "M_UNKNOWN", message: "Unable to sign a token."}
	}
	s.cfg.Log.Debug().Stringer("user_id", user).Bool("full_access", full).Msg("Access was given")
	return jwt, nil
}

// limit bounds what one source may ask, and what a homeserver is asked because of us. The homeservers that may make rooms are the
// network's own: a stranger who names them must not lock their users out.
func (s *Service) limit(source, server string) *apiError {
	now := time.Now()
	if !s.sources.Allow(now, source) {
		return limited(s.sources.Wait(now, source))
	}
	if s.full[server] {
		return nil
	}
	if !s.servers.Allow(now, server) {
		return limited(s.servers.Wait(now, server))
	}
	return nil
}

func limited(wait time.Duration) *apiError {
	return &apiError{
		status: http.StatusTooManyRequests, code: "M_LIMIT_EXCEEDED", message: "Too many requests.", retryMS: max(wait.Milliseconds(), 1),
	}
}

// source names who asks: the address, for IPv6 its /64. A proxy on this machine is believed about the address before it.
func source(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	if a.Unmap().IsLoopback() {
		list := strings.Split(r.Header.Get("X-Forwarded-For"), ",")
		if real, err := netip.ParseAddr(strings.TrimSpace(list[len(list)-1])); err == nil {
			a = real
		}
	}
	if a = limit.Source(a); a.Is6() {
		return netip.PrefixFrom(a, 64).String()
	}
	return a.String()
}

// roomMaker signs requests to LiveKit's API.
type roomMaker struct {
	next        http.RoundTripper
	key, secret string
}

// RoundTrip implements http.RoundTripper.
func (m *roomMaker) RoundTrip(r *http.Request) (*http.Response, error) {
	jwt, err := auth.NewAccessToken(m.key, m.secret).SetValidFor(time.Minute).SetVideoGrant(&auth.VideoGrant{RoomCreate: true}).ToJWT()
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+jwt)
	return m.next.RoundTrip(r)
}
