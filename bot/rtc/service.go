package rtc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/unstable"
)

const (
	// maxAnswer caps what a service may answer, in bytes.
	maxAnswer = 64 << 10
	maxURL    = 1024
	maxJWT    = 16 << 10
	// serviceLimit bounds one request to a service.
	serviceLimit = 15 * time.Second
)

// normalise brings a livekit_service_url into the one form in which services are compared and announced: without a trailing
// slash, scheme and host in small letters. It refuses what is neither https nor loopback http, since our OpenID token goes there.
func normalise(raw string) (string, bool) {
	u, ok := endpoint(raw, "https", "http")
	if !ok || u.RawQuery != "" || u.ForceQuery {
		return "", false
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	service := u.String()
	return service, len(service) <= maxURL
}

// endpoint reads an absolute URL whose scheme is secure, or plain towards this machine only.
func endpoint(raw, secure, plain string) (*url.URL, bool) {
	if raw == "" || len(raw) > maxURL {
		return nil, false
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.User != nil || u.Fragment != "" || u.Hostname() == "" {
		return nil, false
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch u.Scheme {
	case secure:
	case plain:
		if !loopback(u.Hostname()) {
			return nil, false
		}
	default:
		return nil, false
	}
	if port := u.Port(); port == "443" && u.Scheme == secure || port == "80" && u.Scheme == plain || strings.HasSuffix(u.Host, ":") {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	return u, true
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// firstLiveKit picks the service of the first entry of type livekit. Entries that can't be used are passed over.
func firstLiveKit(list []json.RawMessage) (service string, ok bool) {
	for _, raw := range list {
		if service, ok = liveKit(raw); ok {
			return service, true
		}
	}
	return "", false
}

// liveKit reads one transport.
func liveKit(raw json.RawMessage) (service string, ok bool) {
	o, ok := parseObject(raw)
	if !ok {
		return "", false
	}
	if kind, _ := o.text("type", maxName); kind != unstable.TransportLiveKit {
		return "", false
	}
	service, _ = o.text(unstable.ServiceURL, maxURL)
	return normalise(service)
}

// parseTransports reads the homeserver's answer, and parseWellKnown the file. Without a usable entry they return "".
func parseTransports(data []byte) string { return transports(data, keyTransports) }

func parseWellKnown(data []byte) string { return transports(data, unstable.RTCFoci) }

func transports(data []byte, key string) string {
	o, ok := parseObject(data)
	if !ok {
		return ""
	}
	list, ok := o.list(key)
	if !ok {
		return ""
	}
	service, _ := firstLiveKit(list)
	return service
}

// web speaks to what isn't the homeserver: authorisation services and .well-known files.
type web struct {
	tokens, files *http.Client
}

// newWeb derives two clients: tokens follow no redirect, files a few that stay secure.
func newWeb(client *http.Client) *web {
	if client == nil {
		client = bot.NewHTTPClient()
	}
	tokens, files := *client, *client
	tokens.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	files.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if _, ok := endpoint(r.URL.String(), "https", "http"); !ok || len(via) > 3 {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return &web{tokens: &tokens, files: &files}
}

// WellKnown asks the file of a homeserver for the transport; "" when there is none.
func (w *web) WellKnown(ctx context.Context, server string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+server+wellKnownPath, nil)
	if err != nil {
		return "", errors.New("read .well-known/matrix/client: the server name can't be part of an address")
	}
	data, err := do(w.files, request)
	if err != nil {
		return "", fmt.Errorf("read .well-known/matrix/client: %w", err)
	}
	return parseWellKnown(data), nil
}

// tokenRequest is the body of /sfu/get. Services refuse members that they don't know.
type tokenRequest struct {
	Room     id.RoomID       `json:"room"`
	OpenID   json.RawMessage `json:"openid_token"`
	DeviceID id.DeviceID     `json:"device_id"`
}

// hashedRequest is the body of /get_token.
type hashedRequest struct {
	Room   id.RoomID       `json:"room_id"`
	Slot   string          `json:"slot_id"`
	OpenID json.RawMessage `json:"openid_token"`
	Member hashedMember    `json:"member"`
}

type hashedMember struct {
	ID     string      `json:"id"`
	User   id.UserID   `json:"claimed_user_id"`
	Device id.DeviceID `json:"claimed_device_id"`
}

// Token fetches a token of one service.
func (w *web) Token(ctx context.Context, service, path string, body any) (sfu, jwt string, err error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return "", "", fmt.Errorf("get token of %s: %w", service, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, service+path, bytes.NewReader(encoded))
	if err != nil {
		return "", "", fmt.Errorf("get token of %s: %w", service, err)
	}
	request.Header.Set("Content-Type", "application/json")
	data, err := do(w.tokens, request)
	if err == nil {
		sfu, jwt, err = parseToken(data)
	}
	if err != nil {
		return "", "", fmt.Errorf("get token of %s: %w", service, err)
	}
	return sfu, jwt, nil
}

// parseToken reads the answer of both token endpoints: the SFU's address, wss or loopback ws, and the JWT.
func parseToken(data []byte) (sfu, jwt string, err error) {
	o, ok := parseObject(data)
	if !ok {
		return "", "", errors.New("the answer is no JSON object")
	}
	raw, _ := o.text("url", maxURL)
	jwt, _ = o.text("jwt", maxJWT)
	u, ok := endpoint(raw, "wss", "ws")
	if !ok {
		u, ok = endpoint(raw, "https", "http")
	}
	if !ok {
		return "", "", errors.New("the answer's url is neither secure nor on this machine")
	}
	if strings.Count(jwt, ".") != 2 || strings.ContainsFunc(jwt, func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && r != '=' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return "", "", errors.New("the answer's jwt is none")
	}
	return u.String(), jwt, nil
}

// do sends a request and reads its capped answer. A refusal is a ReplyError; other errors don't repeat the address.
func do(client *http.Client, request *http.Request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(request.Context(), serviceLimit)
	defer cancel()
	response, err := client.Do(request.WithContext(ctx))
	if err != nil {
		return nil, withoutURL(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if response.StatusCode != http.StatusOK {
		return nil, newReply(response, data)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("read answer: %w", err)
	case len(data) > maxAnswer:
		return nil, errors.New("read answer: it is too long")
	}
	return data, nil
}

// newReply makes the error for an answer that is a refusal.
func newReply(response *http.Response, body []byte) *ReplyError {
	r := &ReplyError{Status: response.StatusCode}
	r.header(response.Header)
	if o, ok := parseObject(body); ok {
		r.members(o)
	}
	return r
}

// maxRetryAfter caps how long a server may ask us to wait.
const maxRetryAfter = 5 * time.Minute

func (e *ReplyError) header(h http.Header) {
	text := h.Get("Retry-After")
	if seconds, err := time.ParseDuration(text + "s"); err == nil {
		e.wait(seconds)
	} else if at, err := http.ParseTime(text); err == nil {
		e.wait(time.Until(at))
	}
}

func (e *ReplyError) members(o object) {
	code, _ := o.text("errcode", maxName)
	e.Code = errorCode(code)
	if ms, ok := o.integer("retry_after_ms", maxInteger); ok && e.RetryAfter == 0 {
		e.wait(time.Duration(min(ms, maxRetryAfter.Milliseconds())) * time.Millisecond)
	}
	if delayed, _ := o.text(unstable.DelayedErrcode, maxName); delayed == unstable.CodeDelayTooLong {
		e.Code = unstable.CodeDelayTooLong
	}
	if ms, ok := o.integer(unstable.DelayedMaxDelay, maxInteger); ok {
		e.MaxDelay = time.Duration(min(ms, int64(24*time.Hour/time.Millisecond))) * time.Millisecond
	}
}

func (e *ReplyError) wait(d time.Duration) {
	if d > 0 {
		e.RetryAfter = min(d, maxRetryAfter)
	}
}

// withoutURL takes the address out of an error: it may hold a secret.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
