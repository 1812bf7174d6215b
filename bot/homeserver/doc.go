// Package homeserver is the homeserver side of a hub: the configuration of an unmodified Dendrite, and a front. The front is a reverse proxy
// before Dendrite or any other homeserver. It adds what MatrixRTC calls need and the homeserver lacks.
//
// [NewDendrite] writes Dendrite's configuration and returns the command that runs it. The caller keeps it running. [Register] makes
// accounts with the shared secret. [NewFront] makes the [Front], an http.Handler that serves
//
//   - /.well-known/matrix/client and /.well-known/matrix/server,
//   - the list of RTC transports (MSC4143),
//   - delayed events (MSC4140): kept in the hub's database, sent when due by [Front.Run],
//   - /_matrix/client/versions, where it announces these,
//
// and passes everything else below /_matrix/ to the homeserver. All other paths are refused, so the homeserver's administration is
// reachable only at its own loopback port.
//
// A delayed event is sent with the access token that scheduled it, so the hub's database holds access tokens while events are
// scheduled. It is a secret, like the homeserver's own database: only the hub's user may read the file.
//
// The goroutine of [Front.Run] owns the schedule of delayed events. Requests give it functions to run and wait for the result. All methods
// may be called from any goroutine unless they say otherwise.
//
// No library has the server's side of MSC4140, so that is written here. Registration with a shared secret (/_synapse/admin/v1/register) is
// not in mautrix's Client, whose Register uses the public endpoint.
package homeserver
