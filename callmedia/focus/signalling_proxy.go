package focus

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"
)

// signalPaths are the paths of LiveKit that clients need: both forms of signalling, and the ones that explain a refusal. Everything
// else stays closed: the API, which creates and ends rooms, and WHIP, which takes media without signalling. The value says whether a
// request is a join.
var signalPaths = map[string]bool{"/rtc": true, "/rtc/v1": true, "/rtc/validate": false, "/rtc/v1/validate": false}

// ProxyConfig configures a Proxy. All but Log are required.
type ProxyConfig struct {
	// LiveKitURL is LiveKit's address for us (http or https).
	LiveKitURL string
	// Key and Secret are LiveKit's, for tokens.
	Key, Secret string
	// ICEServers are what a user's clients are told, in place of what LiveKit says. nil: LiveKit's. Each user must have one name for the TURN server's
	// quota; LiveKit would give each join another one.
	ICEServers func(user id.UserID) []*livekit.ICEServer
	// Member says whether a user is in a Matrix room, as far as is known now. Who is not, can't join with an older token, either. nil: everybody may.
	Member func(user id.UserID, room id.RoomID) bool
	Log    zerolog.Logger
}

// Proxy passes LiveKit's signalling on, and nothing else. It is an http.Handler that expects request paths without the prefix that it is mounted
// under. It sees everybody who joins, and so holds two rules that LiveKit does not have: nobody takes the place of somebody who is there (see seats),
// and a room exists only if somebody who may create it joins. Its methods may be called from any goroutine.
type Proxy struct {
	cfg   ProxyConfig
	proxy *httputil.ReverseProxy
	rooms livekit.RoomService
	seats *seats
}

// NewProxy checks the configuration.
func NewProxy(cfg ProxyConfig) (*Proxy, error) {
	if err := checkURL(cfg.LiveKitURL, "http", "https"); err != nil {
		return nil, fmt.Errorf("proxy to LiveKit: %w", err)
	}
	if cfg.Key == "" || len(cfg.Secret) < minSecret {
		return nil, fmt.Errorf("proxy to LiveKit: a key and a secret of %d or more characters are needed", minSecret)
	}
	target, err := url.Parse(strings.TrimSuffix(cfg.LiveKitURL, "/"))
	if err != nil {
		return nil, fmt.Errorf("proxy to LiveKit: %w", err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			path := target.Path + r.In.URL.Path
			r.SetURL(target)
			r.Out.URL.Path, r.Out.URL.RawPath = path, ""
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: 15 * time.Second},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, "the SFU does not answer", http.StatusBadGateway)
		},
		ErrorLog: log.New(io.Discard, "", 0), // its lines would contain URLs with tokens
	}
	return &Proxy{cfg: cfg, proxy: proxy, rooms: newRoomService(cfg.LiveKitURL, cfg.Key, cfg.Secret), seats: newSeats()}, nil
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	joins, known := signalPaths[r.URL.Path]
	switch {
	case !known:
		http.NotFound(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodOptions:
		w.Header().Set("Allow", "GET, OPTIONS")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	case r.ContentLength != 0:
		http.Error(w, "the request must not have a body", http.StatusBadRequest)
	case joins && r.Method == http.MethodGet:
		p.serveJoin(w, r)
	default:
		p.proxy.ServeHTTP(w, r)
	}
}

// serveJoin lets somebody join, or join again.
func (p *Proxy) serveJoin(w http.ResponseWriter, r *http.Request) {
	token := takeToken(r)
	who, ok := verify(p.cfg.Key, p.cfg.Secret, token)
	if !ok {
		http.Error(w, "the token is not valid", http.StatusUnauthorized)
		return
	}
	if !p.mayStay(who.issue) {
		http.Error(w, "you are not in this room", http.StatusForbidden)
		return
	}
	r.Header.Set("Authorization", bearer+token) // LiveKit reads the token that was checked
	if who.Creates {
		if err := createRoom(r.Context(), p.rooms, who.room); err != nil && r.Context().Err() == nil {
			p.cfg.Log.Warn().Err(err).Msg("LiveKit did not make a room for somebody who joins")
		}
	}
	key := seatKey{who.room, who.identity}
	mine := p.seats.take(r.Context(), key, who.issue)
	if mine == nil {
		p.cfg.Log.Info().Str("identity", who.identity).Msg("Somebody was refused who joined with the identity of a participant who is there")
		http.Error(w, "a participant with this identity is there already", http.StatusConflict)
		return
	}
	defer p.seats.leave(key, mine)
	if !p.mayStay(who.issue) { // Recheck may have looked before the place was taken
		http.Error(w, "you are not in this room", http.StatusForbidden)
		return
	}
	watched := &watchedWriter{ResponseWriter: w, heard: func() { p.seats.hear(mine) }}
	if p.cfg.ICEServers != nil {
		watched.servers = p.cfg.ICEServers(who.User)
		r.Header.Del("Sec-Websocket-Extensions") // what is compressed can't be changed
	}
	p.proxy.ServeHTTP(watched, r)
}

// mayStay says whether somebody with a token may be in its room.
func (p *Proxy) mayStay(how issue) bool {
	return p.cfg.Member == nil || p.cfg.Member(how.User, how.Room)
}

// Recheck removes the participants who may not stay in their rooms any more. It is called after rooms have changed, from one goroutine at a time. LiveKit
// says who is there: the media of a client may go on for a while after its signalling connection has ended. done is false if LiveKit did not answer,
// or if somebody may be joining who may not stay; then Recheck is to be called again soon. It takes a few seconds at most.
func (p *Proxy) Recheck(ctx context.Context) (done bool) {
	ctx, cancel := context.WithTimeout(ctx, recheckLimit)
	defer cancel()
	rooms, err := p.rooms.ListRooms(ctx, &livekit.ListRoomsRequest{})
	if err != nil {
		p.cfg.Log.Warn().Err(err).Msg("LiveKit does not say who is there, so nobody can be removed")
		return false
	}
	done = true
	for _, room := range rooms.Rooms {
		ctx := context.WithValue(ctx, adminKey{}, room.Name)
		present, err := p.rooms.ListParticipants(ctx, &livekit.ListParticipantsRequest{Room: room.Name})
		if err != nil {
			done = false // the room may have ended
			continue
		}
		for _, who := range present.Participants {
			how := readIssue(who.Attributes[issueAttribute])
			if how.User == "" || p.mayStay(how) { // without an issue, another service has let them in
				continue
			}
			_, err := p.rooms.RemoveParticipant(ctx, &livekit.RoomParticipantIdentity{Room: room.Name, Identity: who.Identity})
			if err != nil {
				done = false
				p.cfg.Log.Warn().Err(err).Str("identity", who.Identity).Msg("A participant who is not in the room any more could not be removed from the SFU")
				continue
			}
			p.cfg.Log.Info().Str("identity", who.Identity).Msg("A participant who is not in the room any more was removed from the SFU")
		}
	}
	return done && !p.seats.any(func(how issue) bool { return !p.mayStay(how) })
}

// recheckLimit bounds Recheck.
const recheckLimit = 5 * time.Second

const bearer = "Bearer "

// takeToken returns the token of a request, from the place where LiveKit would look first, and removes it from the URL.
func takeToken(r *http.Request) string {
	const parameter = "access_token"
	query := r.URL.Query()
	token := query.Get(parameter)
	if header := r.Header.Get("Authorization"); header != "" {
		token = strings.TrimPrefix(header, bearer)
	}
	query.Del(parameter)
	r.URL.RawQuery = query.Encode()
	return token
}
