// Package transport finds out where the media of a MatrixRTC call go, and gets access there: the transports of MSC4143, the LiveKit transport of
// MSC4195, and the client of the MatrixRTC authorisation service, which turns an OpenID token into a token for the SFU.
//
// [Find] looks for our own transport: first the homeserver's answer, then its .well-known file, then the configuration. [Client] fetches
// that file and asks authorisation services. [ServiceURL] is the one check that every livekit_service_url passes, ours and other people's,
// before anything is sent there.
//
// What mautrix has for this, and why it is not used:
//   - Client.RTCTransports needs the answer of /versions first, which would add one round trip before the first picture, and one
//     transport that cannot be read makes the whole answer an error.
//   - Client.RTCLivekitGetToken asks the homeserver, as the newest text of MSC4195 says. The services that exist today (lk-jwt-service,
//     our hub) are asked under livekit_service_url, which is mostly another host.
//
// The package has no state besides its HTTP clients. Everything may be called from any goroutine.
package transport
