// Package callmedia is the media of one call. A [Session] joins two ends: the page of the kiosk (package page, behind [Local]), and the SFU of
// the call (package sfu). Whole frames pass between them, encrypted on their way out and decrypted on their way in (package e2ee).
//
// A Session publishes the page's microphone and camera at its own SFU, subscribes to further SFUs where foreign members publish (MSC4195),
// and reconnects for ever. It knows nothing of Matrix: it is told whom to show, with which keys, and where tokens come from.
//
// # One frame from the page to the SFU
//
//  1. pion receives SRTP from the browser. The goroutine of a [track.Reader], one for each of the page's tracks, reads the packets.
//     Its frames.Assembler joins them to a frame.
//  2. page.Page calls [Session.HandleFrame], still in that goroutine, as are all further steps. That calls sender.send.
//  3. The frame is dropped while sending is off, while no SFU is joined, or until a key frame comes.
//  4. e2ee.Encryptor encrypts it. frames.Packetizer cuts it into packets with sequence numbers of our own.
//  5. sfu.LocalLayer.WriteRTP names the simulcast layer in each packet. pion encrypts the packet again (SRTP) and sends it.
//
// # One frame from the SFU to the page
//
//  1. pion receives SRTP from the SFU. The goroutine of a [track.Reader], one for each remote track, reads the packets and joins them to a
//     frame. It does so for tracks that are not shown, too: the SFU estimates the bandwidth from what we acknowledge.
//  2. receiver.frame drops the frame of a track that is not shown. Otherwise e2ee.Decryptor decrypts it, still in that goroutine, as are all
//     further steps. A frame that can't be decrypted is dropped, and so are those that refer to it, until a key frame comes.
//  3. [Local.WriteFrame] is page.Page's: the tile's track.Timeline shifts the timestamp, frames.Packetizer cuts the frame into packets.
//  4. pion encrypts the packets (SRTP) and sends them to the browser.
//
// # Goroutines
//
// One goroutine, Session.run, owns who is shown in which tile and which SFUs are connected; others give it work by Session.post. Each SFU has
// a goroutine that joins it again and again, and one that hands its events to run. Each remote track has its reader. [Session.Close] waits for
// all of them. Frames do not go through run: the gate, the keys and the counters are atomics, and each sender has a lock of its own.
package callmedia

import (
	"time"

	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/track"
)

// Local is the near end of a call. It delivers what is sent, and shows what is received. page.Page implements it. All methods may be called from
// any goroutine and never block for long.
type Local interface {
	// Tiles is how many remote participants can be shown at once, 16 at most.
	Tiles() int
	// SetUplink sets who gets our own frames, nil for nobody. When it returns, the previous uplink is not called any more.
	SetUplink(track.Uplink)
	// RequestKeyFrame asks the encoder of track.Video or track.SmallVideo for a key frame. Requests in quick succession become one.
	RequestKeyFrame(kind track.Kind)
	// SetBitrate limits the picture that is sent, and the small picture, in bit/s. A picture whose limit is zero need not be encoded.
	SetBitrate(video, small int)
	// SetLoss says which part of the sound that is sent gets lost on the way, 0 to 1. Its encoder can put the same sound into the next packet once more
	// (Opus in-band FEC, RFC 6716, section 2.1.7).
	SetLoss(sound float64)
	// WriteFrame shows one decrypted frame in a tile. The codec may change with each key frame. data is only read, and only until WriteFrame
	// returns.
	WriteFrame(tile int, kind track.Kind, c codec.Codec, source track.Source, timestamp uint32, data []byte)
	// Shows says whether frames in a codec can be shown.
	Shows(c codec.Codec) bool
	// SetClock says that a source's RTP clock was at timestamp when its wall clock was at ntp. The page plays sound and picture in step by it.
	SetClock(tile int, kind track.Kind, source track.Source, ntp time.Time, timestamp uint32)
}
