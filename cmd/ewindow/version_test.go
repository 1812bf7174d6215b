package main

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestFormatVersion(t *testing.T) {
	vcs := func(more ...debug.BuildSetting) []debug.BuildSetting {
		return append([]debug.BuildSetting{
			{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "1b840a1c0f3e5d7b9a2c4e6f8091a2b3c4d5e6f7"}, {Key: "vcs.time", Value: "2026-11-29T21:17:00Z"},
		}, more...)
	}
	modified := debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	for name, test := range map[string]struct {
		version  string
		settings []debug.BuildSetting
		want     string
	}{
		"a release":                       {"v1.2.3", nil, "v1.2.3"},
		"a release in a checkout":         {"v1.2.3", vcs(), "v1.2.3"},
		"a release with changes":          {"v1.2.3+dirty", vcs(modified), "v1.2.3+changes"},
		"a pre-release":                   {"v1.2.3-rc.1", nil, "v1.2.3-rc.1"},
		"a checkout":                      {"v0.0.0-20261129211700-1b840a1c0f3e", vcs(), "commit 1b840a1c0f3e of 2026-11-29T21:17:00Z"},
		"a checkout after a release":      {"v1.2.4-0.20261129211700-1b840a1c0f3e", vcs(), "commit 1b840a1c0f3e of 2026-11-29T21:17:00Z"},
		"a checkout with changes":         {"v0.0.0-20261129211700-1b840a1c0f3e+dirty", vcs(modified), "commit 1b840a1c0f3e of 2026-11-29T21:17:00Z +changes"},
		"a checkout, before Go 1.24":      {"(devel)", vcs(), "commit 1b840a1c0f3e of 2026-11-29T21:17:00Z"},
		"a short revision":                {"(devel)", []debug.BuildSetting{{Key: "vcs.revision", Value: "17"}}, "commit 17"},
		"go install of a commit":          {"v0.0.0-20261129211700-1b840a1c0f3e", nil, "v0.0.0-20261129211700-1b840a1c0f3e"},
		"-buildvcs=false":                 {"(devel)", nil, "of an unknown commit (built without version control information, by go1.26.0)"},
		"-buildvcs=false and no version":  {"", nil, "of an unknown commit (built without version control information, by go1.26.0)"},
		"another version control's build": {"(devel)", []debug.BuildSetting{{Key: "vcs", Value: "hg"}}, "of an unknown commit (built without version control information, by go1.26.0)"},
	} {
		info := &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: test.version}, Settings: test.settings}
		if got := formatVersion(info); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	if got := formatVersion(nil); got != "of an unknown commit (built without version control information)" {
		t.Errorf("without build information: %q", got)
	}
}

func TestVersion(t *testing.T) {
	code, stdout, _ := command(t, "version")
	if code != 0 || !strings.HasPrefix(stdout, "ewindow ") {
		t.Errorf("code %d, %q", code, stdout)
	}
	if text := strings.TrimSpace(stdout); text == "ewindow" || text == "ewindow development" {
		t.Errorf("%q tells nothing", text)
	}
}
