package homeserver

import (
	"encoding/json"
	"errors"
	"net/http"

	"go.mau.fi/util/exhttp"

	"multifactorymodel.org/ewindow/bot/unstable"
)

// serveVersions answers with the homeserver's versions and features, and the features that the front adds.
func (f *Front) serveVersions(w http.ResponseWriter, r *http.Request) {
	var versions map[string]json.RawMessage
	if err := f.ask(r, "/_matrix/client/versions", r.Header.Get("Authorization"), &versions); err != nil {
		f.fail(w, r, err)
		return
	}
	answer, err := addFeatures(versions)
	if err != nil {
		f.fail(w, r, err)
		return
	}
	exhttp.WriteJSONResponse(w, http.StatusOK, answer)
}

// addFeatures adds the front's features to the homeserver's answer.
func addFeatures(versions map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	features := make(map[string]json.RawMessage)
	if text, ok := versions["unstable_features"]; ok {
		if err := json.Unmarshal(text, &features); err != nil || features == nil {
			features = make(map[string]json.RawMessage)
		}
	}
	features[unstable.Delayed] = json.RawMessage("true")
	features[unstable.RTC] = json.RawMessage("true")
	text, err := json.Marshal(features)
	if err != nil {
		return nil, errors.New("the homeserver's versions are no valid JSON")
	}
	if versions == nil {
		versions = make(map[string]json.RawMessage)
	}
	versions["unstable_features"] = text
	return versions, nil
}

// serveTransports lists the RTC transports (MSC4143).
func (f *Front) serveTransports(w http.ResponseWriter, r *http.Request) {
	if _, err := f.authenticate(r); err != nil {
		f.fail(w, r, err)
		return
	}
	exhttp.WriteJSONResponse(w, http.StatusOK, map[string]any{unstable.RTCTransports: f.transport})
}
