package homeserver

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"
)

var localpartPattern = regexp.MustCompile(`^[a-z0-9._=/+-]{1,200}$`)

// Register makes an account with the homeserver's shared secret, at /_synapse/admin/v1/register of Synapse and Dendrite. baseURL must be
// the homeserver's own address, since the front refuses that path. username is the part of the user id before the colon. A nil client means
// http.DefaultClient. An error wraps a [mautrix.RespError] when the homeserver refused; if the name is taken, that is [mautrix.MUserInUse].
func Register(ctx context.Context, client *http.Client, baseURL, secret, username, password string, admin bool) (id.UserID, error) {
	if client == nil {
		client = http.DefaultClient
	}
	switch {
	case !localpartPattern.MatchString(username) || strings.HasPrefix(username, "_"):
		return "", fmt.Errorf("register: %q is no user name: a to z, digits and . _ = / + - are allowed", username)
	case len(password) < 8 || len(password) > 512 || strings.ContainsRune(password, 0):
		return "", errors.New("register: the password must have 8 to 512 characters")
	case secret == "":
		return "", errors.New("register: the shared secret is missing")
	}
	// A request that ends in the middle of its work is bad for Dendrite, see Front.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), upstreamLimit)
	defer cancel()
	path := strings.TrimSuffix(baseURL, "/") + "/_synapse/admin/v1/register"
	var first struct {
		Nonce string `json:"nonce"`
	}
	if err := exchange(ctx, client, http.MethodGet, path, "", nil, &first); err != nil {
		return "", fmt.Errorf("register %s: %w", username, err)
	}
	role := "notadmin"
	if admin {
		role = "admin"
	}
	mac := hmac.New(sha1.New, []byte(secret))
	_, _ = io.WriteString(mac, strings.Join([]string{first.Nonce, username, password, role}, "\x00"))
	var second struct {
		UserID      id.UserID `json:"user_id"`
		AccessToken string    `json:"access_token"`
	}
	err := exchange(ctx, client, http.MethodPost, path, "", map[string]any{
		"nonce": first.Nonce, "username": username, "password": password, "admin": admin, "mac": hex.EncodeToString(mac.Sum(nil)),
	}, &second)
	if err != nil {
		return "", fmt.Errorf("register %s: %w", username, err)
	}
	if _, _, err := second.UserID.ParseAndValidateRelaxed(); err != nil {
		return "", fmt.Errorf("register %s: the homeserver answered with a strange user id: %w", username, err)
	}
	if second.AccessToken != "" { // registration makes a device, which nobody will use
		_ = exchange(ctx, client, http.MethodPost, strings.TrimSuffix(baseURL, "/")+"/_matrix/client/v3/logout", second.AccessToken, tree{}, nil)
	}
	return second.UserID, nil
}

// exchange sends a request with JSON and reads JSON. body and answer may be nil. A refusal is a [mautrix.RespError].
func exchange(ctx context.Context, client *http.Client, method, url, token string, body, answer any) error {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, reader)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return refusal(res, text)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return errors.New("the homeserver's answer is no valid JSON")
	}
	return nil
}

// refusal is the error for an answer with a status other than 2xx.
func refusal(res *http.Response, text []byte) mautrix.RespError {
	refused := mautrix.RespError{StatusCode: res.StatusCode}
	_ = json.Unmarshal(text, &refused)
	if refused.ErrCode == "" {
		refused.ErrCode = "M_UNKNOWN"
	}
	if refused.Err == "" {
		refused.Err = http.StatusText(res.StatusCode)
	}
	refused.StatusCode = res.StatusCode
	return refused
}
