package turnserver

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the scheme's hash
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// maxUsername is the longest USERNAME that STUN allows, in bytes (RFC 8489, section 14.3).
const maxUsername = 508

// Credentials makes a user name and password that are good for ttl from now. name says who the user is; it may be empty, and
// is seen by anyone on the wire.
func Credentials(secret, name string, ttl time.Duration) (username, password string) {
	username = strconv.FormatInt(time.Now().Add(ttl).Unix(), 10)
	if name != "" {
		username += ":" + name
	}
	return username, passwordFor(secret, username)
}

// passwordFor is base64(HMAC-SHA1(secret, username)), as the draft has it.
func passwordFor(secret, username string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

var errUsername = errors.New("the user name is not a time and a name")

// parseUsername takes a user name apart: seconds since 1970, a colon, a name. Without a name the whole text is the name, so
// that nameless credentials have a quota each.
func parseUsername(username string) (expiry time.Time, name string, err error) {
	seconds, name, _ := strings.Cut(username, ":")
	// ParseInt would take a sign; the size keeps times in a range where they compare rightly.
	n, err := strconv.ParseUint(seconds, 10, 40)
	if err != nil || len(username) > maxUsername {
		return time.Time{}, "", errUsername
	}
	if name == "" {
		name = username
	}
	return time.Unix(int64(n), 0), name, nil
}
