package rig

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	"github.com/rs/zerolog"
	"go.yaml.in/yaml/v3"

	"multifactorymodel.org/ewindow/bridge/child"
	"multifactorymodel.org/ewindow/callmedia/focus"
)

// LiveKit is one LiveKit server on 127.0.0.1. Its media uses 127.0.0.1, too.
type LiveKit struct {
	process

	// URL is for signalling (ws://127.0.0.1:PORT), HTTPURL for the API.
	URL, HTTPURL string
	// Key and Secret sign tokens.
	Key, Secret string
	// UDPPort is the UDP port for media.
	UDPPort int

	server *focus.LiveKit
}

// LiveKitOptions change what StartLiveKitWith starts.
type LiveKitOptions struct {
	// NoAutoCreate makes the server refuse access tokens for rooms that do not exist, as the hub's LiveKit does.
	NoAutoCreate bool
	// Turn lists the TURN servers that LiveKit itself announces to clients, as a LiveKit that is not the hub's may.
	Turn []Turn
}

// Turn is a TURN server, whose credentials are made from a shared secret (the scheme of coturn's REST API).
type Turn struct {
	Host     string
	Port     int
	Protocol string // "udp", "tcp" or "tls"
	Secret   string
}

// StartLiveKit starts a LiveKit server. It stops when the test ends. It creates a room when a client with a valid access token joins it.
func StartLiveKit(t testing.TB) *LiveKit {
	t.Helper()
	return StartLiveKitWith(t, LiveKitOptions{})
}

// StartLiveKitWith starts a LiveKit server with options.
func StartLiveKitWith(t testing.TB, o LiveKitOptions) *LiveKit {
	t.Helper()
	dir := t.TempDir()
	program := Program(t, child.LiveKit)
	l := &LiveKit{Key: "rig", Secret: rand.Text() + rand.Text()}
	l.name, l.output = "LiveKit", filepath.Join(dir, "livekit.log")
	l.command = func() (*exec.Cmd, error) {
		cmd, err := l.server.Command(program)
		if err == nil {
			err = o.change(cmd.Args[len(cmd.Args)-1])
		}
		return cmd, err
	}
	l.ready = func(ctx context.Context) error { return l.server.Ready(ctx) }
	l.stopAtCleanup(t)
	for attempt := 1; ; attempt++ {
		var ports [3]int
		for i := range ports {
			port, err := child.FreePort()
			if err != nil {
				t.Fatal(err)
			}
			ports[i] = port
		}
		var err error
		l.server, err = focus.NewLiveKit(focus.LiveKitConfig{
			Dir: filepath.Join(dir, "livekit"), Key: l.Key, Secret: l.Secret, Port: ports[0], UDPPort: ports[1], TCPPort: ports[2],
			NodeIP: "127.0.0.1", AllowLoopback: true, Log: zerolog.Nop(),
		})
		if err == nil {
			l.UDPPort = ports[1]
			err = l.start(t.Context())
		}
		if err == nil {
			break
		}
		l.logTail(t)
		if attempt == startAttempts {
			t.Fatal(err)
		}
	}
	l.HTTPURL = l.server.URL()
	l.URL = strings.Replace(l.HTTPURL, "http", "ws", 1)
	return l
}

// change changes a configuration file that the hub's code has written. Without NoAutoCreate, LiveKit creates rooms for valid access tokens.
func (o LiveKitOptions) change(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var settings map[string]any
	if err := yaml.Unmarshal(text, &settings); err != nil {
		return err
	}
	room, ok := settings["room"].(map[string]any)
	if !ok || room["auto_create"] != false {
		return errors.New("the configuration does not set room.auto_create to false")
	}
	room["auto_create"] = !o.NoAutoCreate
	if len(o.Turn) > 0 {
		rtc, ok := settings["rtc"].(map[string]any)
		if !ok {
			return errors.New("the configuration has no part rtc")
		}
		var list []map[string]any
		for _, t := range o.Turn {
			list = append(list, map[string]any{"host": t.Host, "port": t.Port, "protocol": t.Protocol, "secret": t.Secret})
		}
		rtc["turn_servers"] = list
		delete(rtc, "stun_servers")
	}
	if text, err = yaml.Marshal(settings); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// Token returns an access token with which identity can join a room, publish and subscribe for an hour.
func (l *LiveKit) Token(t testing.TB, identity, room string) string {
	t.Helper()
	return l.TokenWith(t, identity, &auth.VideoGrant{RoomJoin: true, Room: room})
}

// Participants asks the server for the participants of a room and their tracks.
func (l *LiveKit) Participants(t testing.TB, room string) []*livekit.ParticipantInfo {
	t.Helper()
	token := l.TokenWith(t, "", &auth.VideoGrant{RoomAdmin: true, Room: room})
	client := livekit.NewRoomServiceProtobufClient(l.HTTPURL, &http.Client{Timeout: 10 * time.Second, Transport: bearer(token)})
	answer, err := client.ListParticipants(t.Context(), &livekit.ListParticipantsRequest{Room: room})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetParticipants()
}

// TokenWith returns a token with a grant.
func (l *LiveKit) TokenWith(t testing.TB, identity string, grant *auth.VideoGrant) string {
	t.Helper()
	jwt, err := auth.NewAccessToken(l.Key, l.Secret).SetIdentity(identity).SetValidFor(time.Hour).SetVideoGrant(grant).ToJWT()
	if err != nil {
		t.Fatal(err)
	}
	return jwt
}

// bearer sends a token with each request.
type bearer string

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}
