package kiosk

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"

	"multifactorymodel.org/ewindow/bot/privatefile"
)

const (
	// keyFile is the file in the data folder that holds the page's key. It lasts as long as the folder, so that a browser that hangs on the wall
	// is let in again after a restart of the program.
	keyFile = "page-key"
	// PageFile is the file in the data folder that the kiosk's browser opens. It leads to the page, with the key. The key itself must not be on
	// the browser's command line: every program on the machine can read that.
	PageFile = "page.html"
)

// A client of /ws names two subprotocols (RFC 6455, 1.9): ours, and the key behind a prefix. A browser can set no other header there, and an
// address might get into a log.
const (
	subprotocol = "ewindow"
	keyPrefix   = "ewindow.key."
)

// keyForm is what a key looks like: crypto/rand.Text makes one, and people may write one of their own.
var keyForm = regexp.MustCompile(`^[A-Za-z0-9_-]{16,128}$`)

// ReadKey returns the key of the page whose server uses this data folder.
func ReadKey(dataDir string) (string, error) {
	path := filepath.Join(dataDir, keyFile)
	key, err := privatefile.Read(path)
	if err != nil {
		return "", fmt.Errorf("read the page's key: %w", err)
	}
	if !keyForm.MatchString(key) {
		return "", fmt.Errorf("%s holds no key of 16 to 128 letters and digits: remove it, and the next start makes a new one", path)
	}
	return key, nil
}

// openKey is ReadKey. It makes a key if there is none.
func openKey(dataDir string) (string, error) {
	key, err := ReadKey(dataDir)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = rand.Text()
	if err := privatefile.Write(filepath.Join(dataDir, keyFile), []byte(key+"\n")); err != nil {
		return "", fmt.Errorf("write the page's key: %w", err)
	}
	return key, nil
}

// Address is the page's address for a browser, with its key. addr is a host with a port. The browser does not send the part behind # to a server.
func Address(addr, key string) string { return "http://" + addr + "/#" + key }

// Subprotocols are what a client of /ws has to offer (Sec-WebSocket-Protocol).
func Subprotocols(key string) []string { return []string{subprotocol, keyPrefix + key} }

var pageFile = template.Must(template.New(PageFile).Parse(`<!DOCTYPE html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={{.}}">
<title>e-window</title>
<a href="{{.}}">e-window</a>
`))

// writePageFile writes the file that leads the browser to an address. Only the account of this program can read it.
func writePageFile(dataDir, address string) error {
	var text bytes.Buffer
	err := pageFile.Execute(&text, template.URL(address))
	if err == nil {
		err = privatefile.Write(filepath.Join(dataDir, PageFile), text.Bytes())
	}
	if err != nil {
		return fmt.Errorf("write the file that the browser opens: %w", err)
	}
	return nil
}

// hasKey says whether a request for /ws has the key.
func (s *Server) hasKey(r *http.Request) bool {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(line, ",") {
			if key, ok := strings.CutPrefix(strings.TrimSpace(name), keyPrefix); ok {
				return subtle.ConstantTimeCompare([]byte(key), []byte(s.key)) == 1
			}
		}
	}
	return false
}
