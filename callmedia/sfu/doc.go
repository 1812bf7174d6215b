// Package sfu is a client of a LiveKit selective forwarding unit (SFU). It joins one room with a token, publishes at most one microphone and
// one camera, and hands out the tracks of the other participants as RTP (MSC4195).
//
// It moves RTP packets and does not look into them: its user rebuilds, encrypts and decrypts the frames. Everything the SFU sends is treated
// as hostile. Sizes and counts are capped. A message that can't be read ends the connection with an error. A message of an unknown kind is
// counted and left alone.
//
// # The signalling is our own
//
// The package speaks LiveKit's signalling protocol (version 17, two peer connections) itself, on pion and LiveKit's generated protobuf types.
// LiveKit's Go client, server-sdk-go, can't do what a window needs. The reasons, checked with version 2.17.0, the newest
// one with a checksum:
//   - Its PublishSimulcastTrack leaves the encryption out of the add-track request. The SFU then tells everybody that the track is not
//     encrypted, and browsers play ciphertext.
//   - It never sets disable_red in that request. The redundant blocks of RED (RFC 2198) can't be taken apart once they are encrypted.
//   - Its ICE time-outs are constants: it gives a dead connection up after 15 s. A Room does so after 6 s, see iceLost.
//   - It takes no transport.Net. Where a firewall drops the packets of TURN over TCP, closing a peer connection took 132 s, measured. With
//     network's limit it takes 3 s.
//
// # Goroutines
//
// Each [Room] has a goroutine that owns its state: others give it work by Room.post. Two more read and write the signalling connection. One
// sends sender reports and passes on the bandwidth estimates. While packets of a picture wait for their turn, another one sends them. Each layer
// that is sent, and each track that is received, has one that reads its RTCP. [Room.Close] waits for all of them.
//
// A Room never reconnects. When its connection is lost for whatever reason it emits [Disconnected] as the last event, and its user joins again
// with a fresh token.
package sfu
