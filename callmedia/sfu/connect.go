package sfu

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/livekit/protocol/livekit"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia/peerconnection"
)

// Options say where and how to join. URL and Token are mandatory.
type Options struct {
	// URL is the SFU's address from the MatrixRTC authorisation service: ws, wss, http or https, with or without a path.
	URL string
	// Token is the JWT of the MatrixRTC authorisation service (MSC4195). It is sent as a header, so that it does not get into access logs.
	Token string
	// Publish says that PublishAudio or PublishVideo will be used.
	Publish bool
	// Log gets constant messages with identities and track ids as fields. It never gets the token, SDP or media.
	Log zerolog.Logger
	// ForceRelay sends all media through the TURN servers that the SFU announces.
	ForceRelay bool
	// NoUDP sends media over TCP only, for networks in which UDP gets through for a moment and then no more, see [ReasonUDP].
	NoUDP bool
	// AllowLoopback also offers loopback addresses, for an SFU on the same machine.
	AllowLoopback bool
	// Allowed says which addresses may be sent anything: those of the SFU, of the ICE servers that it announces, and of its candidates. It is for
	// SFUs that others have named. nil means every address.
	Allowed func(netip.Addr) bool
	// OnBitrate is called with the estimated bandwidth, in bit/s, of the connection to the SFU for the published picture. That happens when the
	// estimate changes, at most ten times a second, from one goroutine. It must not block.
	OnBitrate func(bps int)
	// UplinkStart and DownlinkStart are where the estimates of the bandwidth begin, in bit/s: what earlier connections have found out. 0 means that
	// nothing is known.
	UplinkStart, DownlinkStart int
}

// protocolVersion is the version of LiveKit's signalling that this package speaks.
const protocolVersion = 17

// Connect joins the room that the token names. It returns after the SFU's join message, while the media connections are still being made. ctx
// bounds only the attempt. The error is a *[RefusedError] when the SFU answered and did not let us in.
func Connect(ctx context.Context, opts Options) (*Room, error) {
	address, err := signalURL(opts.URL)
	if err != nil {
		return nil, err
	}
	if opts.Token == "" {
		return nil, errors.New("connect to the SFU: there is no token")
	}
	conn, err := dialSignal(ctx, signalClient(opts.Allowed), address, opts.Token)
	if err != nil {
		return nil, err
	}
	join, early, err := conn.readJoin(ctx)
	if err != nil {
		conn.abort()
		return nil, fmt.Errorf("join the SFU's room: %w", err)
	}
	room, err := newRoom(opts, lookAtIPv6(ctx), conn, join)
	if err != nil {
		conn.abort()
		return nil, fmt.Errorf("join the SFU's room: %w", err)
	}
	room.start(early)
	return room, nil
}

// signalURL checks the SFU's address and returns the WebSocket URL of its signalling.
func signalURL(base string) (*url.URL, error) {
	// The parser's own error would repeat the address, which others have written.
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.User != nil || u.Opaque != "" {
		return nil, errors.New("connect to the SFU: its address is not a URL with a host")
	}
	switch u.Scheme {
	case "ws", "wss":
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	default:
		return nil, fmt.Errorf("connect to the SFU: its address has the scheme %q instead of wss", peerconnection.Printable(u.Scheme))
	}
	q := url.Values{}
	q.Set("auto_subscribe", "1")
	q.Set("protocol", fmt.Sprint(protocolVersion))
	q.Set("sdk", strings.ToLower(livekit.ClientInfo_GO.String()))
	q.Set("version", "2.9.0") // the version of LiveKit's Go SDK that joins in this way
	u.RawQuery, u.Fragment = q.Encode(), ""
	u.Path = strings.TrimSuffix(u.Path, "/") + "/rtc"
	u.RawPath = ""
	return u, nil
}
