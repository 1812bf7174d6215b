package sfu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/livekit/protocol/livekit"
	"google.golang.org/protobuf/proto"

	"multifactorymodel.org/ewindow/callmedia/peerconnection"
	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

// Bounds for what an SFU may send. They are far above what a call needs.
const (
	maxMessage      = 1 << 20
	maxSDP          = 512 << 10
	maxSections     = 512 // m-lines of an SDP
	maxCandidate    = 2 << 10
	maxParticipants = 512 // in one message, and in the room
	maxTracks       = 32  // of one participant
	maxName         = 1 << 10
	maxICEServers   = 16
	maxICEURLs      = 8
	maxTrailer      = 256
)

// maxAnswer is how much of a refusal's text is read.
const maxAnswer = 8 << 10

// joinTimeout bounds the wait for the first message, writeTimeout one write to the WebSocket.
const (
	joinTimeout  = 10 * time.Second
	writeTimeout = 5 * time.Second
)

// errUnknownSignal is for a message of a kind that the generated types do not know. Newer servers may send such messages.
var errUnknownSignal = errors.New("signalling message of an unknown kind")

// signalConn is the WebSocket with one protobuf message in each binary message.
type signalConn struct{ ws *websocket.Conn }

// signalClient returns the HTTP client for an SFU. If the addresses are limited, it uses no proxy, since a proxy would connect without asking.
func signalClient(allowed func(netip.Addr) bool) *http.Client {
	if allowed == nil {
		return http.DefaultClient
	}
	dialer := net.Dialer{Timeout: joinTimeout, Control: addrpolicy.Control(allowed)}
	// The client serves one connection, and perhaps a question why that was refused.
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: joinTimeout, DisableKeepAlives: true}}
}

func dialSignal(ctx context.Context, client *http.Client, address *url.URL, token string) (*signalConn, error) {
	header := http.Header{"Authorization": {"Bearer " + token}}
	ws, answer, err := websocket.Dial(ctx, address.String(), &websocket.DialOptions{HTTPClient: client, HTTPHeader: header})
	if err == nil {
		ws.SetReadLimit(maxMessage)
		return &signalConn{ws: ws}, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("connect to the SFU: %w", ctx.Err())
	}
	if answer == nil || answer.StatusCode < 400 {
		return nil, fmt.Errorf("connect to the SFU: %w", err)
	}
	refused := &RefusedError{Status: answer.StatusCode}
	if answer.Body != nil {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
		refused.Reason = quoted(text, token)
	}
	// A proxy may have replaced the SFU's answer to the WebSocket request by its own. A plain HTTP request gets through.
	if told := validate(ctx, client, *address, token); told != nil {
		refused = told
	}
	return nil, refused
}

// validate asks the SFU by a plain HTTP request why it refuses us. It is nil when that can't be found out.
func validate(ctx context.Context, client *http.Client, address url.URL, token string) *RefusedError {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	address.Scheme = map[string]string{"ws": "http", "wss": "https"}[address.Scheme]
	address.Path += "/validate"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := client.Do(request)
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	if answer.StatusCode < 400 {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	return &RefusedError{Status: answer.StatusCode, Reason: quoted(text, token)}
}

// read returns the next message. Every error but errUnknownSignal is the end of the connection.
func (c *signalConn) read(ctx context.Context) (*livekit.SignalResponse, error) {
	kind, data, err := c.ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	if kind != websocket.MessageBinary {
		return nil, errUnknownSignal
	}
	return decodeSignal(data)
}

// readJoin waits for the join message. LiveKit sends it first; a few messages that came before it are returned, too.
func (c *signalConn) readJoin(ctx context.Context) (*livekit.JoinResponse, []*livekit.SignalResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	var early []*livekit.SignalResponse
	for range 16 {
		m, err := c.read(ctx)
		if errors.Is(err, errUnknownSignal) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		switch m := m.Message.(type) {
		case *livekit.SignalResponse_Join:
			return m.Join, early, nil
		case *livekit.SignalResponse_Leave:
			return nil, nil, &LeaveError{Reason: m.Leave.GetReason(), Action: m.Leave.GetAction()}
		}
		early = append(early, m)
	}
	return nil, nil, errors.New("the SFU did not answer with a join message")
}

func (c *signalConn) write(ctx context.Context, m *livekit.SignalRequest) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a signalling message: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageBinary, data)
}

// isNetwork says whether err means that the connection ended, and not that a message was unacceptable.
func isNetwork(err error) bool {
	var network net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &network)
}

// abort closes the connection without waiting for the SFU.
func (c *signalConn) abort() { _ = c.ws.CloseNow() }

// decodeSignal reads one message of the SFU. Everything in it that is used later is checked against the bounds above.
func decodeSignal(data []byte) (*livekit.SignalResponse, error) {
	if len(data) > maxMessage {
		return nil, errors.New("signalling message is too long")
	}
	m := new(livekit.SignalResponse)
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("decode a signalling message: %w", err)
	}
	switch m := m.Message.(type) {
	case nil:
		return nil, errUnknownSignal
	case *livekit.SignalResponse_Join:
		if err := checkJoin(m.Join); err != nil {
			return nil, err
		}
	case *livekit.SignalResponse_Offer:
		if err := checkSDP(m.Offer, "offer"); err != nil {
			return nil, err
		}
	case *livekit.SignalResponse_Answer:
		if err := checkSDP(m.Answer, "answer"); err != nil {
			return nil, err
		}
	case *livekit.SignalResponse_Trickle:
		if len(m.Trickle.GetCandidateInit()) > maxCandidate {
			return nil, errors.New("candidate is too long")
		}
	case *livekit.SignalResponse_TrackPublished:
		if err := checkTrack(m.TrackPublished.GetTrack()); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func checkJoin(j *livekit.JoinResponse) error {
	if j.GetParticipant().GetSid() == "" || j.GetParticipant().GetIdentity() == "" {
		return errors.New("join message without participant")
	}
	if len(j.GetParticipant().GetSid()) > maxName || len(j.GetParticipant().GetIdentity()) > maxName {
		return errors.New("our own name in the join message is too long")
	}
	if len(j.GetSifTrailer()) > maxTrailer {
		return errors.New("frame trailer is too long")
	}
	if len(j.GetIceServers()) > maxICEServers {
		return errors.New("too many ICE servers")
	}
	for _, s := range j.GetIceServers() {
		if len(s.GetUrls()) > maxICEURLs || len(s.GetUsername()) > maxName || len(s.GetCredential()) > maxName {
			return errors.New("ICE server is too long")
		}
		for _, u := range s.GetUrls() {
			if len(u) > maxName {
				return errors.New("ICE server is too long")
			}
		}
	}
	return nil
}

func checkSDP(s *livekit.SessionDescription, kind string) error {
	if s.GetType() != kind {
		return fmt.Errorf("SDP of the type %q instead of %s", peerconnection.Printable(s.GetType()), kind)
	}
	if len(s.GetSdp()) > maxSDP || strings.Count(s.GetSdp(), "\nm=") > maxSections {
		return errors.New("SDP is too long")
	}
	return nil
}

func checkTrack(t *livekit.TrackInfo) error {
	if len(t.GetSid()) > maxName {
		return errors.New("track's id is too long")
	}
	return nil
}
