package homeserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
	"go.mau.fi/util/exhttp"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/unstable"
)

// Sizes, in bytes.
const (
	maxMedia   = 50 << 20 // an upload
	maxRequest = 16 << 20 // any other request: a federation transaction of 50 events and 100 EDUs has up to 10 MiB
	maxEvent   = 64 << 10 // one event
	maxAnswer  = 1 << 20  // what we read ourselves from the homeserver
	maxToken   = 4 << 10
)

// upstreamLimit bounds a request of our own to the homeserver.
const upstreamLimit = 30 * time.Second

// goneLimit is how long a request may go on after its client has hung up. It is longer than clients let /sync wait.
const goneLimit = 90 * time.Second

// FrontConfig is what a Front needs. All but Transports are required.
type FrontConfig struct {
	// Upstream is the homeserver itself, such as http://127.0.0.1:8008.
	Upstream *url.URL
	// ServerName is the name of the homeserver.
	ServerName string
	// PublicURL is the address at which clients and other homeservers reach the front, such as https://matrix.example.org.
	PublicURL string
	// Transports are the URLs of the MatrixRTC authorisation services that clients are told to use, the preferred one first. nil: none.
	Transports []string
	// SFUToken gives a device access to the SFU of the first of Transports. nil: there is none, or it is not ours. Its errors are
	// mautrix.RespErrors.
	SFUToken func(ctx context.Context, user id.UserID, device id.DeviceID, room id.RoomID) (url, jwt string, err error)
	// TURN gives a user access to a TURN server (GET /voip/turnServer), or says that they get none. nil: the homeserver does that itself.
	TURN func(user id.UserID) (access TURNAccess, ok bool)
	// RemoteMedia limits the files of other homeservers that the homeserver keeps; nil: it does that itself.
	RemoteMedia *RemoteMedia
	// DB holds scheduled events. It was opened by migrations.OpenHub. The front does not close it.
	DB  *dbutil.Database
	Log zerolog.Logger
}

// Front is the reverse proxy before a homeserver. It is an http.Handler. Delayed events are served while [Front.Run] runs. Before and
// after, clients get status 503 for them.
//
// A delayed event is lost if its access token becomes invalid before it is due, because the client logs out or the token expires.
type Front struct {
	upstream    *url.URL
	serverName  string
	wellKnown   map[string]any // the answer of each path below /.well-known/matrix/
	transport   []transport
	turn        func(user id.UserID) (access TURNAccess, ok bool) // nil: the homeserver's
	remoteMedia *RemoteMedia                                      // nil: no limit
	sfuToken    func(ctx context.Context, user id.UserID, device id.DeviceID, room id.RoomID) (url, jwt string, err error)
	proxy       *httputil.ReverseProxy
	client      *http.Client // to the homeserver
	schedule    *scheduler
	stored      store
	log         zerolog.Logger
}

// transport is one RTC transport in our answers (MSC4143, MSC4195).
type transport struct {
	Type       string `json:"type"`
	ServiceURL string `json:"livekit_service_url"`
	URL        string `json:"url"` // the same, as MSC4195's newest text calls it
}

// NewFront checks a configuration. It starts nothing.
func NewFront(cfg FrontConfig) (*Front, error) {
	if cfg.Upstream == nil || cfg.Upstream.Host == "" || !slices.Contains([]string{"http", "https"}, cfg.Upstream.Scheme) {
		return nil, errors.New("homeserver front: the upstream must be an http or https URL")
	}
	public, err := url.Parse(strings.TrimSuffix(cfg.PublicURL, "/"))
	if err != nil || public.Hostname() == "" || !slices.Contains([]string{"http", "https"}, public.Scheme) || public.Path != "" {
		return nil, fmt.Errorf("homeserver front: %q is no public URL such as https://matrix.example.org", cfg.PublicURL)
	}
	if !serverNamePattern.MatchString(cfg.ServerName) {
		return nil, fmt.Errorf("homeserver front: %q is no server name", cfg.ServerName)
	}
	if cfg.DB == nil {
		return nil, errors.New("homeserver front: the database is missing")
	}
	f := &Front{
		upstream:    &url.URL{Scheme: cfg.Upstream.Scheme, Host: cfg.Upstream.Host},
		serverName:  cfg.ServerName,
		transport:   []transport{},
		sfuToken:    cfg.SFUToken,
		remoteMedia: cfg.RemoteMedia,
		turn:        cfg.TURN,
		log:         cfg.Log,
	}
	if f.sfuToken != nil && len(cfg.Transports) == 0 {
		return nil, errors.New("homeserver front: there is an SFU, and no transport that names it")
	}
	for _, service := range cfg.Transports {
		if u, err := url.Parse(service); err != nil || u.Host == "" {
			return nil, fmt.Errorf("homeserver front: %q is no URL of an authorisation service", service)
		}
		f.transport = append(f.transport, transport{unstable.TransportLiveKit, service, service})
	}
	f.wellKnown = wellKnown(public, f.transport)
	// There is no proxy from the environment and no compression. The time to the first byte has no limit, because /sync waits.
	upstream := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConns:        256,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     60 * time.Second,
		DisableCompression:  true,
	}
	f.client = &http.Client{
		Transport:     upstream,
		Timeout:       upstreamLimit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	f.proxy = &httputil.ReverseProxy{
		Transport:     upstream,
		FlushInterval: -1,
		Rewrite:       f.rewrite,
		ErrorHandler:  f.proxyError,
		ErrorLog:      stdlog.New(io.Discard, "", 0), // it would log each client that hangs up
	}
	f.stored = store{cfg.DB}
	f.schedule = newScheduler(f.stored, f.sendDelayed, cfg.Log)
	return f, nil
}

// Run sends delayed events when they are due, first those that became due while it did not run. When ctx ends, it waits for the events that
// are being sent, up to five seconds, and returns nil. It is called once.
func (f *Front) Run(ctx context.Context) error {
	defer f.client.CloseIdleConnections()
	return f.schedule.run(ctx)
}

// ServeHTTP implements http.Handler.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, err := parsePath(r.URL.EscapedPath())
	if err != nil {
		f.answer(w, mautrix.MUnrecognized.WithMessage("Unknown path").WithStatus(http.StatusNotFound))
		return
	}
	if known, ok := f.wellKnown[r.URL.Path]; ok {
		f.own(w, r, map[string]http.HandlerFunc{http.MethodGet: func(w http.ResponseWriter, _ *http.Request) {
			exhttp.WriteJSONResponse(w, http.StatusOK, known)
		}})
		return
	}
	target, query := path.target(), r.URL.Query()
	if r.Method == http.MethodPut && query.Has(unstable.Delay) && target.kind != targetSend {
		target.kind = targetUnknown // a homeserver that ignores the delay would send at once
	}
	switch target.kind {
	case targetUnknown:
		f.answer(w, mautrix.MUnrecognized.WithMessage("Unknown path").WithStatus(http.StatusNotFound))
	case targetVersions:
		f.own(w, r, map[string]http.HandlerFunc{http.MethodGet: f.serveVersions})
	case targetTransports:
		f.own(w, r, map[string]http.HandlerFunc{http.MethodGet: f.serveTransports})
	case targetSFUToken:
		methods := map[string]http.HandlerFunc{}
		if f.sfuToken != nil {
			methods[http.MethodPost] = f.serveSFUToken
		}
		f.own(w, r, methods)
	case targetSchedule:
		f.own(w, r, map[string]http.HandlerFunc{http.MethodPut: func(w http.ResponseWriter, r *http.Request) {
			f.serveSchedule(w, r, target, query)
		}})
	case targetDelayedList:
		f.own(w, r, map[string]http.HandlerFunc{http.MethodGet: f.serveDelayedList})
	case targetDelayed:
		f.own(w, r, map[string]http.HandlerFunc{http.MethodPost: func(w http.ResponseWriter, r *http.Request) {
			f.serveDelayed(w, r, target)
		}})
	case targetSend:
		if query.Has(unstable.Delay) && r.Method == http.MethodPut {
			f.serveSchedule(w, r, target, query)
			return
		}
		f.pass(w, r, maxRequest)
	case targetTURN:
		if f.turn == nil {
			f.pass(w, r, maxRequest)
			return
		}
		f.own(w, r, map[string]http.HandlerFunc{http.MethodGet: f.serveTURN})
	case targetUpload:
		defer f.remoteMedia.hold()()
		f.pass(w, r, maxMedia)
	case targetMedia:
		if target.server == f.serverName {
			f.pass(w, r, maxRequest)
			return
		}
		f.own(w, r, map[string]http.HandlerFunc{http.MethodGet: func(w http.ResponseWriter, r *http.Request) {
			f.serveRemoteMedia(w, r, target)
		}})
	case targetPublicMedia:
		// Without this rule strangers could let the homeserver fetch any file of any server, and keep it.
		if target.server != f.serverName {
			f.answer(w, mautrix.MNotFound.WithMessage("Files of other homeservers need a token: ask /_matrix/client/v1/media (MSC3916)").
				WithStatus(http.StatusNotFound))
			return
		}
		f.pass(w, r, maxRequest)
	default:
		f.pass(w, r, maxRequest)
	}
}

// own serves a path of ours: the given methods, and the requests by which browsers ask whether they may use these methods (CORS).
func (f *Front) own(w http.ResponseWriter, r *http.Request, methods map[string]http.HandlerFunc) {
	handler := methods[r.Method]
	if r.Method == http.MethodHead {
		handler = methods[http.MethodGet]
	}
	switch {
	case handler != nil:
		handler(w, r)
	case r.Method == http.MethodOptions:
		exhttp.AddCORSHeaders(w)
		w.WriteHeader(http.StatusNoContent)
	default:
		f.answer(w, mautrix.MUnrecognized.WithMessage("Unknown method").WithStatus(http.StatusMethodNotAllowed))
	}
}

// pass passes a request to the homeserver.
func (f *Front) pass(w http.ResponseWriter, r *http.Request, limit int64) {
	if r.ContentLength > limit {
		f.answer(w, errTooLarge)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, limit)
	// A client that hangs up must not end the request to the homeserver. A request that ends in the middle of its work leaves Dendrite's
	// SQLite inside a transaction, and then every write fails until Dendrite is started again.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	stop := context.AfterFunc(r.Context(), func() { time.AfterFunc(goneLimit, cancel) })
	defer stop()
	f.proxy.ServeHTTP(w, r.WithContext(ctx))
}

var errTooLarge = mautrix.MTooLarge.WithMessage("The request is too large").WithStatus(http.StatusRequestEntityTooLarge)

// rewrite directs a request to the homeserver. Path, query and host stay unchanged, since other homeservers' signatures cover them.
func (f *Front) rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host = f.upstream.Scheme, f.upstream.Host
	p.Out.URL.RawQuery = p.In.URL.RawQuery
	p.Out.Host = p.In.Host
	p.SetXForwarded() // the client's own headers of this kind were removed before
}

// proxyError answers when the homeserver did not.
func (f *Front) proxyError(w http.ResponseWriter, r *http.Request, err error) {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		f.answer(w, errTooLarge)
	case r.Context().Err() != nil: // the client has been gone for goneLimit
		w.WriteHeader(http.StatusBadGateway)
	default:
		f.log.Debug().Err(err).Msg("The homeserver can't be reached")
		f.answer(w, errUnreachable)
	}
}

var errUnreachable = mautrix.MUnknown.WithMessage("The homeserver can't be reached at the moment").WithStatus(http.StatusBadGateway)

// answer writes an error in the form of Matrix.
func (f *Front) answer(w http.ResponseWriter, err mautrix.RespError) {
	err.Write(w)
}

// fail writes any error: a refusal unchanged, anything else as "the homeserver can't be reached".
func (f *Front) fail(w http.ResponseWriter, r *http.Request, err error) {
	var refused mautrix.RespError
	if errors.As(err, &refused) {
		f.answer(w, refused)
		return
	}
	if r.Context().Err() == nil {
		f.log.Debug().Err(err).Msg("The homeserver can't be asked")
	}
	f.answer(w, errUnreachable)
}

// identity is the user and device that make a request.
type identity struct {
	user   id.UserID
	device id.DeviceID
	token  string
}

// authenticate asks the homeserver whose token a request carries.
func (f *Front) authenticate(r *http.Request) (identity, error) {
	token, err := accessToken(r)
	if err != nil {
		return identity{}, err
	}
	var who struct {
		UserID   id.UserID   `json:"user_id"`
		DeviceID id.DeviceID `json:"device_id"`
	}
	if err := f.ask(r, "/_matrix/client/v3/account/whoami", "Bearer "+token, &who); err != nil {
		var refused mautrix.RespError
		if errors.As(err, &refused) && !slices.Contains([]int{401, 403, 429}, refused.StatusCode) {
			err = errUnreachable // the client did not ask for whoami, so other errors of whoami mean nothing to it
		}
		return identity{}, err
	}
	if _, _, err := who.UserID.Parse(); err != nil || len(who.UserID) > id.UserIDMaxLength {
		return identity{}, errors.New("the homeserver does not say whose token it is")
	}
	return identity{who.UserID, who.DeviceID, token}, nil
}

// accessToken reads the access token of a request (Client-Server API, "Client authentication").
func accessToken(r *http.Request) (string, error) {
	token := r.URL.Query().Get("access_token")
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, rest, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return "", mautrix.MMissingToken.WithMessage("The Authorization header has no bearer token").WithStatus(http.StatusUnauthorized)
		}
		token = strings.TrimSpace(rest)
	}
	switch {
	case token == "":
		return "", mautrix.MMissingToken.WithMessage("Missing access token").WithStatus(http.StatusUnauthorized)
	case len(token) > maxToken || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }):
		return "", mautrix.MUnknownToken.WithMessage("Unknown access token").WithStatus(http.StatusUnauthorized)
	}
	return token, nil
}

// ask makes a GET request of our own to the homeserver, for a client.
func (f *Front) ask(r *http.Request, path, authorization string, answer any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), upstreamLimit) // as in pass
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.upstream.String()+path, nil)
	if err != nil {
		return err
	}
	req.Host = r.Host
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	if client, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		req.Header.Set("X-Forwarded-For", client)
	}
	res, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		refused := refusal(res, text)
		if res.StatusCode >= 500 {
			refused = errUnreachable
		}
		if after := res.Header.Get("Retry-After"); after != "" {
			refused = refused.WithExtraHeader("Retry-After", after)
		}
		return refused
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return errors.New("the homeserver's answer is no valid JSON")
	}
	return nil
}
