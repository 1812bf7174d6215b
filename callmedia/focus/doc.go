// Package focus is a MatrixRTC focus (MSC4143, MSC4195): an unmodified LiveKit server that runs beside us, and the MatrixRTC
// authorisation service, which gives Matrix users access to its rooms.
//
//	client ── OpenID token ──► [Service] ── whose token is it? ──► the client's homeserver (federation API)
//	   │   ◄── URL and JWT ──     └─── create the room ─────────► LiveKit's API (loopback)
//	   └── WebSocket, JWT ─────► [Proxy] ──────────────────────► LiveKit's signalling (loopback)
//	   └── media ──────────────────────────────────────────────► LiveKit's UDP and TCP port
//
// [LiveKit] makes the server's configuration and the command that starts it. Something else runs the command, for example package
// child. [Service] speaks the protocol of lk-jwt-service: POST /sfu/get and /get_token, GET /healthz. It refuses to take over
// delayed leave events (MSC4140), as older services do; clients then keep their own.
//
// Everything is closed by default: LiveKit creates no room by itself, and the service creates rooms only for the users of listed
// homeservers (room_creation.go). Users of all other homeservers get a token, too, which lets them enter a room that exists. Media is
// encrypted from end to end, so they can't read what is said in it. Who is in the Matrix room is for the caller to say
// ([ServiceConfig.Member]): the focus sees no room state.
//
// An OpenID token proves a user to whoever has it, and clients give such tokens to other people's services. So a device of our own homeserver
// can get its access with its access token instead ([Service.DeviceToken]), and a device of another one can sign its request (package proof). From
// then on, its user gets none for an OpenID token alone. The proxy lets nobody take the place of a participant who is there, but such devices
// take theirs from anybody. With a LiveKit that clients reach without the proxy, these rules do not hold.
//
// To look a user up, the service connects to a host that a stranger names. Before each connection it asks an address policy about
// the very address. Answers are bounded in size and time, and so is the number of look-ups.
//
// Nothing here starts a goroutine that outlives a request. Whoever serves the handlers owns their goroutines.
package focus
