// Package rig runs the real servers for tests: Dendrite with the hub's front before it, and LiveKit. Each test that asks gets its own,
// on free ports of 127.0.0.1 with data in the test's temporary folder, and they end with the test.
//
//	hs := rig.StartHomeserver(t)            // one Dendrite, ready when it returns (about a second)
//	user, password := hs.Register(t, "anna") // @anna:localhost:PORT
//	client := hs.Client(t, user)            // a *mautrix.Client of that user with a device of its own
//	hs.URL                                  // where clients talk to: http://127.0.0.1:PORT, through the front
//	hs.Kill(t); hs.Restart(t)               // an outage: the front answers 502 meanwhile
//
// [StartFederation] runs two that trust one throw-away certificate authority and talk to each other over TLS as on the Internet.
// A programme that must reach a homeserver by its server name (federation API, https://localhost:PORT) takes [Homeserver.HTTPClient], or
// [CAFile] as SSL_CERT_FILE.
//
// The programs come from package child, which builds them into the user's cache folder the first time; that takes minutes.
package rig
