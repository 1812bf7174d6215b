package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/matrixerror"
	"multifactorymodel.org/ewindow/bot/proof"
	"multifactorymodel.org/ewindow/bot/strictjson"
	"multifactorymodel.org/ewindow/bot/unstable"
)

// Limits of answers and requests.
const (
	// MaxAnswer is the longest answer that is read, in bytes.
	MaxAnswer = 64 << 10
	maxJWT    = 16 << 10
	// requestLimit bounds one request.
	requestLimit = 15 * time.Second

	wellKnownPath = "/.well-known/matrix/client"
)

// Client asks authorisation services and reads .well-known files: everything in a call that is not a request to our homeserver. Its
// methods may be called from any goroutine.
type Client struct {
	services, files               *http.Client // for what is ours
	guardedServices, guardedFiles *http.Client // for what others have named

	mu        sync.Mutex // guards what follows
	announced map[string]announcement
}

// NewClient makes a Client. It uses the connections of own for our own homeserver's file and service, and those of guarded for what others have
// named: guarded must connect only to addresses that strangers may make us connect to. Requests to authorisation services follow no redirect,
// since a token is sent along. Requests for files follow up to three redirects, as long as the address stays secure.
func NewClient(own, guarded *http.Client) *Client {
	services := func(client http.Client) *http.Client {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		return &client
	}
	files := func(client http.Client) *http.Client {
		client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
			if _, ok := endpoint(r.URL.String(), "https", "http"); !ok || len(via) > 3 {
				return http.ErrUseLastResponse
			}
			return nil
		}
		return &client
	}
	return &Client{
		services: services(*own), files: files(*own), guardedServices: services(*guarded), guardedFiles: files(*guarded),
		announced: make(map[string]announcement),
	}
}

// WellKnown reads the transport in the .well-known file of our own homeserver's name. It is "" when there is none.
func (c *Client) WellKnown(ctx context.Context, server string) (service string, err error) {
	services, err := c.fetchServices(ctx, c.files, server)
	return first(services), err
}

// fetchServices reads all usable services in the .well-known file of a homeserver's name.
func (c *Client) fetchServices(ctx context.Context, client *http.Client, server string) ([]string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+server+wellKnownPath, nil)
	if err != nil {
		return nil, errors.New("read .well-known/matrix/client: the server name can't be part of an address")
	}
	data, err := do(client, request)
	if err != nil {
		return nil, fmt.Errorf("read .well-known/matrix/client: %w", err)
	}
	return parseWellKnown(data), nil
}

// TokenRequest says who asks for a token, and for what.
type TokenRequest struct {
	// Service is the livekit_service_url.
	Service string
	Room    id.RoomID
	User    id.UserID
	Device  id.DeviceID
	// Own says that the service is our own. Then it may have any address, and the endpoint that gives a hashed identity is not tried, since the
	// identity has to be the one of our membership.
	Own bool
	// OpenID fetches a fresh OpenID token of the homeserver, as JSON. Each request to the service needs one of its own.
	OpenID func(ctx context.Context) (json.RawMessage, error)
	// Sign signs a JSON object with the device's key, see package proof.
	Sign func(object any) (string, error)
}

// prove signs the request to a service with an OpenID token.
func (r TokenRequest) prove(service string, openID json.RawMessage) (signature string, err error) {
	var token struct {
		Access string `json:"access_token"`
	}
	if err := json.Unmarshal(openID, &token); err != nil {
		return "", fmt.Errorf("read OpenID token: %w", err)
	}
	return r.Sign(proof.Claim{Service: service, Room: r.Room, User: r.User, Device: r.Device, OpenID: token.Access}.Content())
}

// Token gets the SFU's address and a token for it. A service that does not know /sfu/get is asked at /get_token. A refusal is a
// [matrixerror.Error].
func (c *Client) Token(ctx context.Context, r TokenRequest) (sfu, jwt string, err error) {
	service, ok := ServiceURL(r.Service)
	if !ok {
		return "", "", errors.New("get token: the service's address is neither https nor on this machine")
	}
	openID, err := r.OpenID(ctx)
	if err != nil {
		return "", "", err
	}
	signature, err := r.prove(service, openID)
	if err != nil {
		return "", "", err
	}
	client := c.guardedServices
	if r.Own {
		client = c.services
	}
	sfu, jwt, err = ask(ctx, client, service, unstable.TokenPath, plainRequest{r.Room, openID, r.Device}, signature)
	if refused := matrixerror.Of(err); refused == nil || refused.Status != http.StatusNotFound || r.Own {
		return sfu, jwt, err
	}
	if openID, err = r.OpenID(ctx); err != nil {
		return "", "", err
	}
	return ask(ctx, client, service, unstable.HashedTokenPath, hashedRequest{
		r.Room, unstable.RoomSlot, openID, claimedMember{Identity(r.User, r.Device), r.User, r.Device},
	}, "") // our own services know /sfu/get
}

// plainRequest is the body of /sfu/get. Services refuse bodies with members that they do not know.
type plainRequest struct {
	Room     id.RoomID       `json:"room"`
	OpenID   json.RawMessage `json:"openid_token"`
	DeviceID id.DeviceID     `json:"device_id"`
}

// hashedRequest is the body of /get_token.
type hashedRequest struct {
	Room   id.RoomID       `json:"room_id"`
	Slot   string          `json:"slot_id"`
	OpenID json.RawMessage `json:"openid_token"`
	Member claimedMember   `json:"member"`
}

type claimedMember struct {
	ID     string      `json:"id"`
	User   id.UserID   `json:"claimed_user_id"`
	Device id.DeviceID `json:"claimed_device_id"`
}

// ask sends one request for a token to a service, with a device's signature, if it has one.
func ask(ctx context.Context, client *http.Client, service, path string, body any, signature string) (sfu, jwt string, err error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return "", "", fmt.Errorf("get token of %s: %w", service, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, service+path, bytes.NewReader(encoded))
	if err != nil {
		return "", "", fmt.Errorf("get token of %s: %w", service, err)
	}
	request.Header.Set("Content-Type", "application/json")
	if signature != "" {
		request.Header.Set(proof.Header, signature)
	}
	data, err := do(client, request)
	if err == nil {
		sfu, jwt, err = parseToken(data)
	}
	if err != nil {
		return "", "", fmt.Errorf("get token of %s: %w", service, err)
	}
	return sfu, jwt, nil
}

// ParseSFUToken reads a homeserver's answer to a device that asks for access to its SFU: what a service answers, and which service that is.
func ParseSFUToken(data []byte) (service, sfu, jwt string, err error) {
	o, _ := strictjson.Parse(data)
	raw, _ := o.Text(unstable.ServiceURL, maxURL)
	service, ok := ServiceURL(raw)
	if !ok {
		return "", "", "", errors.New("the answer names no service")
	}
	sfu, jwt, err = parseToken(data)
	return service, sfu, jwt, err
}

// parseToken reads the answer of both endpoints: the SFU's address, which must be wss, or ws on this machine, and the JWT.
func parseToken(data []byte) (sfu, jwt string, err error) {
	o, ok := strictjson.Parse(data)
	if !ok {
		return "", "", errors.New("the answer is no JSON object")
	}
	raw, _ := o.Text("url", maxURL)
	jwt, _ = o.Text("jwt", maxJWT)
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
		return "", "", errors.New("the answer's jwt is not a JWT")
	}
	return u.String(), jwt, nil
}

// do sends a request and reads its answer up to MaxAnswer. A refusal is a matrixerror.Error. Other errors do not repeat the address.
func do(client *http.Client, request *http.Request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(request.Context(), requestLimit)
	defer cancel()
	response, err := client.Do(request.WithContext(ctx))
	if err != nil {
		return nil, matrixerror.WithoutURL(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, MaxAnswer+1))
	if response.StatusCode != http.StatusOK {
		return nil, matrixerror.New(response, data)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("read answer: %w", err)
	case len(data) > MaxAnswer:
		return nil, errors.New("read answer: it is too long")
	}
	return data, nil
}
