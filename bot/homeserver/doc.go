// Package homeserver is the homeserver side of a hub: the configuration of an unmodified Dendrite, and a front that stands before
// Dendrite or any other homeserver and adds what MatrixRTC calls need and the homeserver lacks.
//
// [NewDendrite] writes Dendrite's configuration and gives the command that runs it; keeping it running is the caller's affair.
// [Register] makes accounts with the shared secret. [NewFront] makes the [Front], an http.Handler which serves
//
//   - /.well-known/matrix/client and /.well-known/matrix/server,
//   - the list of RTC transports (MSC4143),
//   - delayed events (MSC4140): kept in the hub's database, sent when due by [Front.Run],
//   - /_matrix/client/versions, where it announces these,
//
// and passes everything else below /_matrix/ to the homeserver. Nothing but /_matrix/ and /.well-known/matrix/ gets through: the
// homeserver's administration stays on its own loopback port.
//
// A delayed event is sent with the access token that scheduled it, so the hub's database holds access tokens for as long as events are
// scheduled. It is a secret, like the homeserver's own database: the file must be readable for the hub's user alone.
//
// All methods may be called from any goroutine unless they say otherwise.
package homeserver
