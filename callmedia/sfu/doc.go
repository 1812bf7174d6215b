// Package sfu is a client of a LiveKit selective forwarding unit (SFU): it joins one room with a token, publishes at most
// one microphone and one camera and hands out the tracks of the other participants as RTP.
//
// It speaks LiveKit's signalling protocol (version 17, two peer connections) itself, on pion and LiveKit's generated
// protobuf types. LiveKit's own Go client was not used because frame encryption needs two things that it cannot do:
// it never sets disable_red in its add-track request, and one of its ways to publish loses the announced encryption, after
// which browsers play ciphertext as sound.
//
// The package moves RTP packets and does not look into them: frames are rebuilt, encrypted and decrypted by its user.
// Everything the SFU sends is treated as hostile: sizes and counts are capped, a message that cannot be read ends the
// connection with an error, an unknown one is counted and left alone.
//
// A [Room] never reconnects. When its connection is lost for whatever reason it emits [Disconnected] as the last event,
// and its user joins again with a fresh token.
package sfu
