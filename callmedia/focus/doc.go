// Package focus is a MatrixRTC focus (MSC4143, MSC4195): an unmodified LiveKit server that runs beside us, and the service
// that gives Matrix users access to its rooms.
//
//	client ── OpenID token ──► [Service] ── whose token is it? ──► the client's homeserver (federation API)
//	   │   ◄── URL and JWT ──     └─── make the room ──────────► LiveKit's API (loopback)
//	   └── WebSocket, JWT ─────► [NewProxy] ───────────────────► LiveKit's signalling (loopback)
//	   └── media ──────────────────────────────────────────────► LiveKit's UDP and TCP port
//
// [LiveKit] makes the server's configuration and the command that starts it; something else runs the command, for example
// package child. [Service] speaks the protocol of lk-jwt-service: POST /sfu/get and /get_token, GET /healthz. Delegated delayed
// leave events are refused as older services do; clients then keep their own.
//
// Everything is closed by default: LiveKit makes no room by itself, and the service makes rooms for the users of listed
// homeservers only. Users of all other homeservers get a token too, with which they can enter a room that is there already;
// what is said in it they can't read, since media is encrypted from end to end. Room membership is not checked: the focus sees
// no room state.
//
// Looking somebody up means connecting to a host that a stranger names. So the addresses that may be connected to are a
// policy, asked for each address just before it is connected to, and answers are bounded in size and time, look-ups in number.
package focus
