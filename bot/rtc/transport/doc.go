// Package transport finds out where the media of a MatrixRTC call go, and gets access there: the transports of MSC4143, the LiveKit transport of
// MSC4195, and the client of the MatrixRTC authorisation service, which turns an OpenID token into a token for the SFU.
//
// [Find] looks for our own transport: first the homeserver's answer, then its .well-known file, then the configuration. [Client] fetches
// that file and asks authorisation services. [ServiceURL] is the one form in which every livekit_service_url is compared, ours and other
// people's.
//
// A service of somebody else gets an OpenID token of ours, so it is used only if their homeserver announces it ([Client.Announces]). What others
// have named is asked through an HTTP client of its own, which connects only to addresses that strangers may make us connect to.
//
// What mautrix has for this, and why it is not used:
//   - Client.RTCTransports needs the answer of /versions first, which would add one round trip before the first picture, and one
//     transport that cannot be read makes the whole answer an error.
//   - Client.RTCLivekitGetToken asks the homeserver, as the newest text of MSC4195 says. The services that exist today (lk-jwt-service,
//     our hub) are asked under livekit_service_url, which is mostly another host.
//
// The package has no state besides its HTTP clients. Everything may be called from any goroutine.
package transport
