package page

import (
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"

	"multifactorymodel.org/ewindow/callmedia/track"
)

// farLoss writes the loss on the far line into the reports about the page's sound (RTCP receiver reports, RFC 3550, section 6.4.2). It changes only the
// fraction that is lost: from the number of lost packets the browser works out the bandwidth.
type farLoss struct {
	interceptor.NoOp
	page *Page
}

// NewInterceptor implements [interceptor.Factory].
func (l *farLoss) NewInterceptor(string) (interceptor.Interceptor, error) { return l, nil }

// BindRTCPWriter implements [interceptor.Interceptor].
func (l *farLoss) BindRTCPWriter(next interceptor.RTCPWriter) interceptor.RTCPWriter {
	return interceptor.RTCPWriterFunc(func(packets []rtcp.Packet, a interceptor.Attributes) (int, error) {
		for _, packet := range packets {
			if report, ok := packet.(*rtcp.ReceiverReport); ok {
				l.fill(report)
			}
		}
		return next.Write(packets, a)
	})
}

func (l *farLoss) fill(report *rtcp.ReceiverReport) {
	c := l.page.connection.Load()
	if c == nil {
		return
	}
	for i := range report.Reports {
		if r := &report.Reports[i]; r.SSRC == c.ssrc[track.Audio].Load() {
			r.FractionLost = max(r.FractionLost, uint8(l.page.loss.Load()))
		}
	}
}
