package callmedia

import (
	"testing"

	"github.com/livekit/protocol/livekit"

	"multifactorymodel.org/ewindow/callmedia/codec"
)

// TestCodecUnknown announces pictures in codecs that can't be shown, and in others.
func TestCodecUnknown(t *testing.T) {
	st := newStage(t)
	st.cfg.Local = &recorder{Local: st.cfg.Local} // its page can't decode H.264
	announce := func(mimeType string, want ...string) {
		t.Helper()
		st.sfu.published("TR_1", "a", livekit.TrackSource_CAMERA, livekit.Encryption_GCM, false, mimeType)
		st.assignTiles()
		st.expect(want...)
	}
	st.remotes("a")
	announce("video/AV1", "a unknown 0", "a up 0")
	announce("video/AV1")
	announce("video/vp9", "a known 0")
	announce("video/H264", "a unknown 0")
	announce("", "a known 0")
	announce("video/H265", "a unknown 0")
	// A track in another codec comes after all.
	r := st.publish("a", livekit.TrackSource_CAMERA)
	st.expect("a known 0")
	st.sfu.gone(r.trackSID)
	st.expect("a unknown 0")
	st.sfu.gone("TR_1")
	st.expect("a known 0", "a gone 0")
	st.sfu.published("TR_2", "b", livekit.TrackSource_CAMERA, livekit.Encryption_GCM, false, "video/AV1")
	st.assignTiles()
	st.expect() // nobody wants to see b
	st.remotes("b")
	st.expect("b unknown 0", "b up 0")
	st.remotes()
	st.expect("b known 0", "b gone 0")

	if st.playable(livekit.TrackSource_CAMERA, livekit.Encryption_GCM, codec.H264) {
		t.Error("a codec is shown that the page can't decode")
	}
}
