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

// Credentials makes a user name and password that are good for ttl from now. name says who the user is. It may be empty, and
// anyone on the wire can read it.
func Credentials(secret, name string, ttl time.Duration) (username, password string) {
	username = strconv.FormatInt(time.Now().Add(ttl).Unix(), 10)
	if name != "" {
		username += ":" + name
	}
	return username, passwordFor(secret, username)
}

// passwordFor is base64(HMAC-SHA1(secret, username)), as the draft demands (draft-uberti-behave-turn-rest-00, section 2.2).
func passwordFor(secret, username string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

var errUsername = errors.New("the user name is not a time and a name")

// parseUsername splits a user name into its parts: seconds since 1970, a colon, a name. If there is no name, the whole text is the
// name, so that each of such credentials has its own quota.
func parseUsername(username string) (expiry time.Time, name string, err error) {
	seconds, name, _ := strings.Cut(username, ":")
	// ParseInt would accept a sign. 40 bits keep the time in a range in which time.Time compares correctly.
	n, err := strconv.ParseUint(seconds, 10, 40)
	if err != nil || len(username) > maxUsername {
		return time.Time{}, "", errUsername
	}
	if name == "" {
		name = username
	}
	return time.Unix(int64(n), 0), name, nil
}
