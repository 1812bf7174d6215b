// Package turnserver is a TURN relay (RFC 8656) that is closed by default. It runs on Linux.
//
// [New] checks a [Config]. [Server.Start] opens every listener or none. [Server.Close] ends everything and waits for it. All
// methods may be called from any goroutine. Clients log in with the time-limited credentials of the "TURN REST API" draft
// (draft-uberti-behave-turn-rest-00), which coturn, LiveKit and Matrix homeservers hand out, too; [Credentials] makes them.
//
// # What it refuses
//
//   - Peers: it relays to and from Config.AllowedPeers only, by address and port. Private, loopback and other special ranges (see
//     package addrpolicy) are opened only by entries that lie inside them. An IPv4-mapped address is judged as the IPv4 address in
//     it; every other IPv6 address that holds an IPv4 address is refused.
//   - Credentials: their time is checked when an allocation is made, and a call that lasts longer goes on. Only the user who made
//     an allocation can change it. A request that somebody heard on the wire and sends again from elsewhere is dropped.
//   - Floods: messages from a source without an allocation are limited before they are parsed, in fixed memory, for each IPv4
//     address or IPv6 /64. Streams must log in within seconds, and their number is limited.
//   - Quotas: allocations are limited in all and for each user, relay ports come from one range, and TCP relaying (RFC 6062) is
//     refused.
//
// # Who owns what
//
// Each core has a loop: one thread that owns a UDP socket for each listener and the relay sockets of the clients that came by it.
// The listeners' sockets share their port (SO_REUSEPORT), and the system deals clients out to them by address. A loop waits for all
// of its sockets at once, and takes and sends many packets in one system call (recvmmsg, sendmmsg, UDP_SEGMENT). One thread touches
// everything that belongs to a client, so nothing is locked, and a relayed packet allocates no memory. A client that comes by TCP or
// TLS has one goroutine that reads and owns the client, and one that writes; its relay socket belongs to a loop, too. The maps that
// all share (quotas, reservations, listeners) are guarded by one mutex, which no relayed packet takes.
//
// # Why it is our own
//
// pion/turn's server (v4.1.4) took 0.36 to 0.42 s of CPU for 80,000 relayed packets of 1,000 bytes and lost 0.6 to 2.6 % of them, where coturn
// 4.6.1 took 0.14 to 0.18 s and lost none. It has a goroutine and a system call for each packet, and keeps memory for each forged request. This
// relay takes 0.53 to 0.98 of coturn's CPU. For an idle allocation it takes 3.2 kB of memory where coturn takes 22.4 kB. docs/turn.md has the
// table, and BenchmarkRelay in cmd/e2e/turn measures it again. pion's client stays in use, in package turncheck and in the tests.
//
// The limit of the bitrate is our own, too (meter.go). golang.org/x/time/rate takes 69 to 140 ns for each packet and a lock that all cores
// share. The meter takes 8 to 16 ns and one atomic number.
package turnserver
