// Package inbound stands between a TCP port and the servers behind it, so that HTTPS and TURN can share one port. Port 443 is the one
// that the strictest firewalls let through.
//
// [New] makes a [Port]. [Port.Run] accepts connections until its context ends. [Port.HTTP] and [Port.TURN] are the listeners of the two
// servers. For each connection a Port
//
//  1. reads who the client is, if the connection comes from a configured proxy (PROXY protocol, version 2),
//  2. decrypts TLS,
//  3. finds out which server the client wants, and hands the connection over.
//
// A client wants TURN if it offers stun.turn by ALPN (RFC 7443) or asks for the relay's name by SNI. It wants HTTP if it offers h2 or http/1.1.
// If it sends no ALPN, as browsers' TURN clients do, its first byte tells: a STUN request begins with 0x00 or 0x01 (RFC 8489, section 5), an
// HTTP/1.1 request with a letter.
//
// Until a connection is handed over, a goroutine of the Port owns it, for ten seconds at most. There are at most 1,024 such
// connections, 64 of them from one IPv4 address or IPv6 /64; further ones are closed at once. Run waits for all of these goroutines.
// A connection that was handed over belongs to its server. With those, there are at most 4,096 connections, 200 of them from one source.
//
// The PROXY header is read with github.com/pires/go-proxyproto. The library's Conn and Listener are not used. They read the header only at the
// first Read, but the Port must count the client before that. They also accept version 1.
package inbound
