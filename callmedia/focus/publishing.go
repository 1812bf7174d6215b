package focus

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// fociLife is how long it is believed whether a homeserver has a focus, maxFoci how many homeservers are remembered.
	fociLife = 10 * time.Minute
	maxFoci  = 256
)

// ownFocus is whether a homeserver announces a focus of its own.
type ownFocus struct {
	has   bool
	until time.Time
}

// mayPublish says whether users of a homeserver may publish here. Those whose homeserver has an SFU publish there (MSC4143), so they only watch here: a
// guest's devices can't use this machine to send to everybody. Users of the listed homeservers always may. What a homeserver does not say is "no".
func (s *Service) mayPublish(ctx context.Context, server string) bool {
	if s.creators.mayCreate(server) {
		return true
	}
	s.mu.Lock()
	known, ok := s.foci[server]
	s.mu.Unlock()
	now := time.Now()
	if ok && now.Before(known.until) {
		return !known.has
	}
	has, err := s.users.announcesFocus(ctx, server, s.cfg.ServiceURL)
	if err != nil {
		s.cfg.Log.Debug().Err(err).Str("server_name", server).Msg("It is not known whether a homeserver has an SFU, so its users can't publish")
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.foci) >= maxFoci {
		clear(s.foci)
	}
	s.foci[server] = ownFocus{has, now.Add(fociLife)}
	return !has
}

// announcesFocus reads whether the .well-known file of a homeserver's name has a focus, and not own, which is ours.
func (d *openIDLookup) announcesFocus(ctx context.Context, server, own string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+server+"/.well-known/matrix/client", nil)
	if err != nil {
		return false, errNoAddress
	}
	request.Header.Set("Accept", acceptJSON)
	answer, err := d.resolve.HTTPClient.Do(request)
	if err != nil {
		return false, withoutURL(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotFound {
		return false, nil
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxUserInfo+1))
	if err != nil || answer.StatusCode != http.StatusOK || len(text) > maxUserInfo {
		return false, errNoFile
	}
	var file struct {
		Foci []struct {
			Service string `json:"livekit_service_url"`
			URL     string `json:"url"` // its newest name
		} `json:"org.matrix.msc4143.rtc_foci"`
	}
	if json.Unmarshal(text, &file) != nil {
		return false, errNoFile
	}
	for _, focus := range file.Foci {
		if own != "" && strings.TrimRight(cmp.Or(focus.Service, focus.URL), "/") == own {
			return false, nil
		}
	}
	return len(file.Foci) > 0, nil
}
