package sfu

import (
	"fmt"
	"net"
	"time"

	"github.com/livekit/protocol/livekit"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/cc"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/stun/v4"
	"github.com/pion/webrtc/v4"

	"multifactorymodel.org/ewindow/callmedia/bandwidth"
	"multifactorymodel.org/ewindow/callmedia/codec"
	"multifactorymodel.org/ewindow/callmedia/peerconnection"
)

// ICE timing. After iceLost without any packet the room ends: joining again is quicker than the 25 s until pion fails by default.
const (
	iceLost      = 6 * time.Second
	iceFailed    = 9 * time.Second // besides that, when no pair of candidates ever worked
	iceKeepalive = time.Second
)

// nackInterval is how often missing packets are asked for. pion's 100 ms would leave time for fewer tries before a frame is given up. Most
// networks answer within 30 ms.
const nackInterval = 30 * time.Millisecond

// The RTCP feedback that we act on (RFC 4585, RFC 5104). pion's interceptors add theirs.
var (
	audioFeedback = []webrtc.RTCPFeedback{{Type: webrtc.TypeRTCPFBNACK}}
	videoFeedback = []webrtc.RTCPFeedback{
		{Type: webrtc.TypeRTCPFBCCM, Parameter: "fir"},
		{Type: webrtc.TypeRTCPFBNACK},
		{Type: webrtc.TypeRTCPFBNACK, Parameter: "pli"},
	}
)

// newPeerConnection makes one of the two peer connections: with up the one to publish on, with down the one to receive on.
func newPeerConnection(
	opts Options, ipv6 *ipv6Alone, servers []webrtc.ICEServer, up *bandwidth.Uplink, down *bandwidth.Downlink,
) (*webrtc.PeerConnection, error) {
	media := &webrtc.MediaEngine{}
	chain := &interceptor.Registry{}
	if err := registerCodecs(media, up == nil); err != nil {
		return nil, fmt.Errorf("register codecs: %w", err)
	}
	if err := registerInterceptors(media, chain, up, down); err != nil {
		return nil, fmt.Errorf("register interceptors: %w", err)
	}
	settings := webrtc.SettingEngine{LoggerFactory: peerconnection.Logger(opts.Log)}
	settings.SetICETimeouts(iceLost, iceFailed, iceKeepalive)
	settings.SetIncludeLoopbackCandidate(opts.AllowLoopback)
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	// This is how long a pair of candidates is not used because a better one may come. pion's defaults, 2 s for a relay, are most of a join.
	settings.SetSrflxAcceptanceMinWait(200 * time.Millisecond)
	settings.SetPrflxAcceptanceMinWait(200 * time.Millisecond)
	settings.SetRelayAcceptanceMinWait(500 * time.Millisecond)
	allowed := ipv6.policy(opts.Allowed)
	network, err := newNetwork(allowed, opts.NoUDP, ipv6)
	if err != nil {
		return nil, fmt.Errorf("look at the network: %w", err)
	}
	settings.SetNet(network)
	if allowed != nil {
		settings.SetRemoteIPFilter(func(ip net.IP) bool { return reachable(ip, allowed) })
	}
	policy := webrtc.ICETransportPolicyAll
	if opts.ForceRelay {
		policy = webrtc.ICETransportPolicyRelay
		settings.SetRelayAcceptanceMinWait(0)
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(chain),
		webrtc.WithSettingEngine(settings))
	return api.NewPeerConnection(webrtc.Configuration{ICEServers: servers, ICETransportPolicy: policy})
}

// registerCodecs registers Opus and VP8, which we send, and for receiving the codecs of others' pictures as well. RED is left out on purpose: its
// redundant blocks would be ciphertext that no receiver can take apart. There are no retransmission streams (RTX) for what we send: the SDP names no SSRC of a
// simulcast layer, so that the SFU would take an RTX stream with the rid of a layer for that layer itself. Lost packets of ours are sent
// again on their own stream.
func registerCodecs(media *webrtc.MediaEngine, receiving bool) error {
	pictures := codec.Pictures()
	if !receiving {
		pictures = pictures[:1]
	}
	for _, c := range pictures {
		if err := peerconnection.RegisterCodec(media, c, receiving, videoFeedback...); err != nil {
			return err
		}
	}
	return peerconnection.RegisterCodec(media, codec.Opus, receiving, audioFeedback...)
}

// registerInterceptors sets up retransmission, transport-wide congestion control (TWCC) and receiver reports. Sender reports are our own, since
// pion does not know the clock of the page's camera.
func registerInterceptors(media *webrtc.MediaEngine, chain *interceptor.Registry, up *bandwidth.Uplink, down *bandwidth.Downlink) error {
	reports, err := report.NewReceiverInterceptor()
	if err != nil {
		return err
	}
	chain.Add(reports)
	if err := webrtc.ConfigureSimulcastExtensionHeaders(media); err != nil {
		return err
	}
	if up == nil {
		// Before those that send RTCP: it keeps back some of what they send.
		chain.Add(down)
		media.RegisterFeedback(webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBGoogREMB}, webrtc.RTPCodecTypeVideo)
		if err := webrtc.ConfigureTWCCSender(media, chain); err != nil {
			return err
		}
		return webrtc.ConfigureNackWithOptions(media, chain, []nack.GeneratorOption{nack.GeneratorInterval(nackInterval)})
	}
	congestion, err := cc.NewInterceptor(func() (cc.BandwidthEstimator, error) { return up, nil })
	if err != nil {
		return err
	}
	// The order matters: a packet passes first the interceptor that was added last, and the estimator needs the header extension in it.
	chain.Add(congestion)
	media.RegisterFeedback(webrtc.RTCPFeedback{Type: webrtc.TypeRTCPFBTransportCC}, webrtc.RTPCodecTypeVideo)
	if err := webrtc.ConfigureTWCCHeaderExtensionSender(media, chain); err != nil {
		return err
	}
	return webrtc.ConfigureNack(media, chain)
}

// iceServers are the ICE servers of the join message, and no others. URLs that pion can't use are left out and counted: with one of them pion
// would refuse all.
func iceServers(in []*livekit.ICEServer) (out []webrtc.ICEServer, bad int) {
	for _, s := range in {
		server := webrtc.ICEServer{Username: s.GetUsername(), Credential: s.GetCredential()}
		for _, u := range s.GetUrls() {
			one := server
			one.URLs = []string{u}
			if !usableICEServer(one) {
				bad++
				continue
			}
			server.URLs = append(server.URLs, u)
		}
		if len(server.URLs) > 0 {
			out = append(out, server)
		}
	}
	return out, bad
}

func usableICEServer(s webrtc.ICEServer) bool {
	u, err := stun.ParseURI(s.URLs[0])
	if err != nil {
		return false
	}
	if u.Scheme == stun.SchemeTypeTURN || u.Scheme == stun.SchemeTypeTURNS {
		return s.Username != "" && s.Credential != ""
	}
	return true
}
