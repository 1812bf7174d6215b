package certificate

import "net/http"

// SpeakBy makes an ACME send its requests by transport, which trusts the certificate of the test's authority.
func SpeakBy(a *ACME, transport http.RoundTripper) {
	a.manager.Client.HTTPClient.Transport = bound{a.over, transport}
}
