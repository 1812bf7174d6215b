package sfu

import (
	"encoding/json"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/webrtc/v4"
	"google.golang.org/protobuf/proto"
)

const (
	// lossyChannel is the data channel for messages that may get lost. LiveKit knows it by this name.
	lossyChannel = "_lossy"
	// bitrateTopic is the topic of the messages in which a participant asks another one for a bitrate.
	bitrateTopic = "org.multifactorymodel.ewindow.bitrate"
	// askInterval is the least time between two messages of one participant.
	askInterval = 50 * time.Millisecond
	// maxData is the longest message that is read, in bytes.
	maxData = 2048
)

// bitrateMessage is the content of such a message.
type bitrateMessage struct {
	BPS  int  `json:"bps,omitempty"`
	Slow bool `json:"slow,omitempty"`
	Lost int  `json:"lost,omitempty"` // per cent
}

// AskBitrate asks a participant to send us a picture of bps bit/s at most; 0 means any. slow says that our line is slow, in either direction, which
// people there may want to know. lost says how much of their sound does not come, in per cent. The message may get lost, so it is sent again and again. It
// is not encrypted: it says nothing but what our line carries, and whoever could change it could as well lose the picture's packets.
func (r *Room) AskBitrate(identity string, bps int, slow bool, lost int) {
	channel := r.lossy
	if channel == nil || channel.ReadyState() != webrtc.DataChannelStateOpen {
		return
	}
	content, err := json.Marshal(bitrateMessage{bps, slow, lost})
	if err != nil {
		return
	}
	topic := bitrateTopic
	data, err := proto.Marshal(&livekit.DataPacket{
		DestinationIdentities: []string{identity}, Value: &livekit.DataPacket_User{User: &livekit.UserPacket{Payload: content, Topic: &topic}},
	})
	if err == nil {
		err = channel.Send(data)
	}
	if err != nil {
		r.log.Debug().Err(err).Msg("Bitrate could not be asked for")
	}
}

// openLossy opens the channel on which AskBitrate sends.
func (r *Room) openLossy() (err error) {
	ordered, again := false, uint16(0)
	r.lossy, err = r.publisher.CreateDataChannel(lossyChannel, &webrtc.DataChannelInit{Ordered: &ordered, MaxRetransmits: &again})
	return err
}

// readData reads the messages of a data channel of the SFU. pion calls it.
func (r *Room) readData(channel *webrtc.DataChannel) {
	channel.OnMessage(func(m webrtc.DataChannelMessage) {
		ask, ok := decodeAsk(m.Data)
		if !ok {
			r.counters.otherData.Add(1)
			return
		}
		r.post(func() { r.bitrateAsked(ask, time.Now()) })
	})
}

// bitrateAsked emits what a participant asks for, unless the last time was only just now: nobody can fill the queue of events in this way.
func (r *Room) bitrateAsked(ask BitrateAsked, now time.Time) {
	if len(r.asked) > maxParticipants {
		clear(r.asked)
	}
	if now.Sub(r.asked[ask.Identity]) < askInterval {
		r.counters.otherData.Add(1)
		return
	}
	r.asked[ask.Identity] = now
	r.emit(ask)
}

// decodeAsk reads a message. The SFU writes the sender's identity into it. ok is false for all other messages.
func decodeAsk(data []byte) (ask BitrateAsked, ok bool) {
	var packet livekit.DataPacket
	if len(data) > maxData || proto.Unmarshal(data, &packet) != nil {
		return BitrateAsked{}, false
	}
	user := packet.GetUser()
	var m bitrateMessage
	if user.GetTopic() != bitrateTopic || json.Unmarshal(user.GetPayload(), &m) != nil || m.BPS < 0 || m.Lost < 0 || m.Lost > 100 {
		return BitrateAsked{}, false
	}
	identity := packet.GetParticipantIdentity()
	if identity == "" {
		//lint:ignore SA1019 older servers write it here
		identity = user.GetParticipantIdentity()
	}
	return BitrateAsked{Identity: identity, BPS: m.BPS, Slow: m.Slow, Lost: m.Lost}, identity != "" && len(identity) <= maxName
}
