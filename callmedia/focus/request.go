package focus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/federation"
	"maunium.net/go/mautrix/id"
)

// The largest sizes in a request, in bytes.
const (
	maxBody  = 16 << 10
	maxName  = 255 // Matrix's own limit for ids
	maxToken = 4 << 10
)

// apiError is an error response in Matrix's form.
type apiError struct {
	status  int
	code    string
	message string
	retryMS int64 // retry_after_ms; 0: left out
}

// Error implements error.
func (e *apiError) Error() string { return e.code + ": " + e.message }

// matrix is the error as the homeserver's front writes it.
func (e *apiError) matrix() mautrix.RespError {
	answer := mautrix.RespError{ErrCode: e.code, Err: e.message, StatusCode: e.status}
	if e.retryMS > 0 {
		answer = answer.WithExtraField("retry_after_ms", e.retryMS)
	}
	return answer
}

func notJSON(message string) *apiError {
	return &apiError{status: http.StatusBadRequest, code: "M_NOT_JSON", message: message}
}

func badJSON(format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, code: "M_BAD_JSON", message: fmt.Sprintf(format, args...)}
}

var errUnauthorized = &apiError{status: http.StatusUnauthorized, code: "M_UNAUTHORIZED", message: "The request could not be authorised."}

// openIDToken is what a homeserver gives its users to prove who they are (Matrix client-server API, OpenID). The members of type any
// are accepted and not used.
type openIDToken struct {
	AccessToken      string `json:"access_token"`
	TokenType        any    `json:"token_type"`
	MatrixServerName string `json:"matrix_server_name"`
	ExpiresIn        any    `json:"expires_in"`
}

// delegation holds the members with which a request hands over a delayed leave event (MSC4140). We refuse that.
type delegation struct {
	DelayID       json.RawMessage `json:"delay_id"`
	DelayTimeout  json.RawMessage `json:"delay_timeout"`
	DelayCSAPIURL json.RawMessage `json:"delay_cs_api_url"`
}

func (d delegation) check() *apiError {
	if d.DelayID != nil || d.DelayTimeout != nil || d.DelayCSAPIURL != nil {
		return badJSON("Delayed leave events can't be delegated to this service.")
	}
	return nil
}

// plainRequest is the body of /sfu/get.
type plainRequest struct {
	Room        string      `json:"room"`
	OpenIDToken openIDToken `json:"openid_token"`
	DeviceID    string      `json:"device_id"`
	delegation
}

// hashedRequest is the body of /get_token.
type hashedRequest struct {
	RoomID      string      `json:"room_id"`
	SlotID      string      `json:"slot_id"`
	OpenIDToken openIDToken `json:"openid_token"`
	Member      struct {
		ID              string `json:"id"`
		ClaimedUserID   string `json:"claimed_user_id"`
		ClaimedDeviceID string `json:"claimed_device_id"`
	} `json:"member"`
	delegation
}

// tokenRequest is a request of either form, after all checks that need no other server.
type tokenRequest struct {
	token    openIDToken
	room     id.RoomID
	name     string // LiveKit's name for it
	claimed  id.UserID
	identity func(user id.UserID) string
	device   id.DeviceID
}

// decode reads exactly one JSON object without unknown members.
func decode(body io.Reader, into any) *apiError {
	text, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	if err != nil || len(text) > maxBody {
		return notJSON("The request's body could not be read.")
	}
	if !utf8.Valid(text) {
		return notJSON("The request is not UTF-8.")
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return notJSON("The request is not the expected JSON object, or has unknown members.")
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return notJSON("Something follows the request.")
	}
	return nil
}

// decodePlain reads and checks a request to /sfu/get.
func decodePlain(body io.Reader) (tokenRequest, *apiError) {
	var r plainRequest
	if err := decode(body, &r); err != nil {
		return tokenRequest{}, err
	}
	if err := firstError(
		r.check(), checkRoom("room", r.Room), checkDevice("device_id", r.DeviceID), r.OpenIDToken.check(),
	); err != nil {
		return tokenRequest{}, err
	}
	return tokenRequest{
		token: r.OpenIDToken, room: id.RoomID(r.Room), name: roomName(r.Room, callSlot),
		identity: func(user id.UserID) string { return plainIdentity(user.String(), r.DeviceID) }, device: id.DeviceID(r.DeviceID),
	}, nil
}

// decodeHashed reads and checks a request to /get_token.
func decodeHashed(body io.Reader) (tokenRequest, *apiError) {
	var r hashedRequest
	if err := decode(body, &r); err != nil {
		return tokenRequest{}, err
	}
	m := r.Member
	if err := firstError(
		r.check(), checkRoom("room_id", r.RoomID), checkName("slot_id", r.SlotID), checkName("member.id", m.ID),
		checkName("member.claimed_user_id", m.ClaimedUserID), checkDevice("member.claimed_device_id", m.ClaimedDeviceID),
		r.OpenIDToken.check(),
	); err != nil {
		return tokenRequest{}, err
	}
	if strings.Count(r.SlotID, "#") != 1 {
		return tokenRequest{}, badJSON("slot_id is not an application and an id with # in between.")
	}
	return tokenRequest{
		token: r.OpenIDToken, room: id.RoomID(r.RoomID), name: roomName(r.RoomID, r.SlotID), claimed: id.UserID(m.ClaimedUserID),
		identity: func(user id.UserID) string { return hashedIdentity(user.String(), m.ClaimedDeviceID, m.ID) },
		device:   id.DeviceID(m.ClaimedDeviceID),
	}, nil
}

func firstError(errs ...*apiError) *apiError {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkName checks a text that becomes part of a name.
func checkName(member, text string) *apiError {
	switch {
	case text == "":
		return badJSON("%s is missing.", member)
	case len(text) > maxName:
		return badJSON("%s is longer than %d bytes.", member, maxName)
	case strings.ContainsFunc(text, notInIDs):
		return badJSON("%s holds control characters.", member)
	}
	return nil
}

// notInIDs says whether a character can't be part of an id. The two separators are refused because Go and JavaScript write them differently in
// JSON, so that the hashes would differ.
func notInIDs(r rune) bool {
	const lineSeparator, paragraphSeparator = 0x2028, 0x2029
	return unicode.IsControl(r) || r == unicode.ReplacementChar || r == lineSeparator || r == paragraphSeparator
}

func checkRoom(member, room string) *apiError {
	if err := checkName(member, room); err != nil {
		return err
	}
	if room[0] != '!' {
		return badJSON("%s is not a room id.", member)
	}
	return nil
}

// checkDevice refuses a colon, too. With one, a user of a.example with the device 8448:X would have the same identity as a user of
// a.example:8448 with the device X, and the SFU would then disconnect the other one.
func checkDevice(member, device string) *apiError {
	if err := checkName(member, device); err != nil {
		return err
	}
	if strings.Contains(device, ":") {
		return badJSON("%s holds a colon.", member)
	}
	return nil
}

func (t openIDToken) check() *apiError {
	if t.AccessToken == "" || len(t.AccessToken) > maxToken {
		return badJSON("openid_token.access_token is missing or too long.")
	}
	if !validServerName(t.MatrixServerName) {
		return badJSON("openid_token.matrix_server_name is not a server name.")
	}
	return nil
}

func validServerName(name string) bool {
	_, _, ok := federation.ParseServerName(name)
	return ok && id.ValidateServerName(name)
}
