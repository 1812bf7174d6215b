package request

import "testing"

func TestParseVersions(t *testing.T) {
	for in, want := range map[string]bool{
		`{"versions":["v1.11"],"unstable_features":{"org.matrix.msc4140":true}}`:   true,
		`{"versions":["v1.11"],"unstable_features":{"org.matrix.msc4140":false}}`:  false,
		`{"versions":["v1.11"],"unstable_features":{"org.matrix.msc4140":"true"}}`: false,
		`{}`: false, `x`: false,
	} {
		if got := parseVersions([]byte(in)); got != want {
			t.Errorf("%s: got %v", in, got)
		}
	}
}
