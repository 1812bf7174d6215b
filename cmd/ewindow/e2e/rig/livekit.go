package rig

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	"github.com/rs/zerolog"

	"multifactorymodel.org/ewindow/callmedia/focus"
	"multifactorymodel.org/ewindow/cmd/ewindow/child"
)

// LiveKit is one LiveKit server on 127.0.0.1, with its media there too.
type LiveKit struct {
	// URL is for signalling (ws://127.0.0.1:PORT), HTTPURL for the API.
	URL, HTTPURL string
	// Key and Secret sign tokens.
	Key, Secret string
	// UDPPort is that of media.
	UDPPort int

	server  *focus.LiveKit
	program string
	output  string

	mu      sync.Mutex // guards process
	process *child.Child
}

// LiveKitOptions change what StartLiveKitWith starts.
type LiveKitOptions struct {
	// NoAutoCreate makes the server refuse tokens for rooms that nobody has made, as the hub's does.
	NoAutoCreate bool
	// Turn is handed out to clients.
	Turn []focus.Turn
}

// StartLiveKit starts a LiveKit server that ends with the test and makes any room that somebody has a token for.
func StartLiveKit(t testing.TB) *LiveKit {
	t.Helper()
	return StartLiveKitWith(t, LiveKitOptions{})
}

// StartLiveKitWith starts a LiveKit server with options.
func StartLiveKitWith(t testing.TB, o LiveKitOptions) *LiveKit {
	t.Helper()
	dir := t.TempDir()
	l := &LiveKit{
		Key: "rig", Secret: rand.Text() + rand.Text(),
		program: child.Need(t, child.LiveKit), output: filepath.Join(dir, "livekit.log"),
	}
	t.Cleanup(func() {
		_ = l.stop(syscall.SIGKILL)
		if t.Failed() {
			l.logTail(t)
		}
	})
	for attempt := 1; ; attempt++ { // another program may take a port before LiveKit does
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
			NodeIP: "127.0.0.1", AllowLoopback: true, AutoCreate: !o.NoAutoCreate, Turn: o.Turn, Log: zerolog.Nop(),
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

// Token lets identity into a room, to publish and subscribe, for an hour.
func (l *LiveKit) Token(t testing.TB, identity, room string) string {
	t.Helper()
	return l.token(t, identity, &auth.VideoGrant{RoomJoin: true, Room: room})
}

// Participants asks the server who is in a room and with which tracks.
func (l *LiveKit) Participants(t testing.TB, room string) []*livekit.ParticipantInfo {
	t.Helper()
	token := l.token(t, "", &auth.VideoGrant{RoomAdmin: true, Room: room})
	client := livekit.NewRoomServiceProtobufClient(l.HTTPURL, &http.Client{Timeout: 10 * time.Second, Transport: bearer(token)})
	answer, err := client.ListParticipants(t.Context(), &livekit.ListParticipantsRequest{Room: room})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetParticipants()
}

func (l *LiveKit) token(t testing.TB, identity string, grant *auth.VideoGrant) string {
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

// Kill ends the server as a power cut would; it stays down until Restart.
func (l *LiveKit) Kill(t testing.TB) {
	t.Helper()
	if err := l.stop(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// Restart starts the server again on the same ports, after Kill or after ending it in order, and waits until it is ready.
func (l *LiveKit) Restart(t testing.TB) {
	t.Helper()
	if err := l.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := l.start(t.Context()); err != nil {
		l.logTail(t)
		t.Fatal(err)
	}
}

// Pid is the server's process id.
func (l *LiveKit) Pid() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.process == nil {
		return 0
	}
	return l.process.Pid()
}

func (l *LiveKit) start(ctx context.Context) error {
	process, err := child.New(child.Config{
		Name: "livekit", Command: func() (*exec.Cmd, error) { return l.server.Command(l.program) }, Ready: l.server.Ready,
		Output: l.output, Log: zerolog.Nop(),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := process.Start(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	l.process = process
	l.mu.Unlock()
	return nil
}

func (l *LiveKit) stop(signal syscall.Signal) error {
	l.mu.Lock()
	process := l.process
	l.process = nil
	l.mu.Unlock()
	if process == nil {
		return nil
	}
	if pid := process.Pid(); pid != 0 {
		_ = syscall.Kill(pid, signal)
	}
	return process.Close()
}

func (l *LiveKit) logTail(t testing.TB) {
	t.Helper()
	text, err := os.ReadFile(l.output)
	if err != nil {
		return
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	t.Logf("the last of what LiveKit at %s printed:\n%s", l.URL, bytes.Join(lines[max(0, len(lines)-15):], []byte("\n")))
}
