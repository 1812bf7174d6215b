// Package rig runs the real servers for tests: Dendrite with the hub's front (its reverse proxy) before it, and LiveKit. Each test starts its
// own servers, on free ports of 127.0.0.1, with data in the test's temporary folder. They stop when the test ends.
//
//	hs := rig.StartHomeserver(t)            // one Dendrite, ready when it returns (about a second)
//	user, password := hs.Register(t, "anna") // @anna:localhost:PORT
//	client := hs.Client(t, user)            // a *mautrix.Client of that user with a device of its own
//	hs.URL                                  // the address for clients: http://127.0.0.1:PORT, through the front
//	hs.Kill(t); hs.Restart(t)               // an outage: the front answers 502 meanwhile
//
// [StartFederation] runs two homeservers that federate over TLS, as on the internet. They trust a certificate authority that exists for the
// tests only. To reach a homeserver by its server name (federation API, https://localhost:PORT), use [Homeserver.HTTPClient], or set
// SSL_CERT_FILE to [CAFile].
//
// Package child finds the programs. The first time, it builds them into the user's cache folder, which takes minutes.
package rig
