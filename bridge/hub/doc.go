// Package hub is the network's small server: a TURN relay, a MatrixRTC focus (LiveKit with its authorisation service) and a homeserver
// (Dendrite behind a reverse proxy, the type Front of package bot/homeserver). Each part can be left out, or can run elsewhere.
//
// [Run] starts what a [Config] asks for, waits until its context ends or a part fails, and ends the parts in reverse order. A part that
// others need is started before them:
//
//	focus        LiveKit as a child, the authorisation service
//	relay        it relays to LiveKit, among others
//	homeserver   Dendrite as a child, the reverse proxy; they announce focus and relay to clients
//	members      the hub's account, which knows who belongs to the network
//	ports        HTTPS (which the relay may share) and plain HTTP, for the authorisation service, LiveKit's signalling and the homeserver
//	certificates an ACME authority checks the open ports
//	addresses    they may change while the hub runs: LiveKit is started again then, and the relay takes the new ones over
//	metrics
//
// A child counts as started when it is ready, and bridge/child starts it again when it ends. When any other part fails, the hub ends with
// its error.
//
// What the hub decides is written as pure functions, with table tests:
//
//	access.go    who may begin calls, and which addresses the hub connects to for others
//	members.go   who gets access to focus and relay: those in a window's room, as package members knows
//	announce.go  what clients, LiveKit and the homeserver are told: addresses, TURN servers, names of certificates
//
// Run's goroutine starts and ends the parts and owns the hub's fields. Only the address that clients are told changes later, in the part "addresses".
// The parts run in goroutines of their own, which the lifecycle.Group waits for.
package hub
