package main

import (
	"fmt"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: func(c *cli.Context) error {
			_, err := fmt.Fprintf(c.App.Writer, "ewindow %s\n", version())
			return err
		},
	}
}

// version is what this program was built from.
func version() string {
	info, _ := debug.ReadBuildInfo()
	return formatVersion(info)
}

// pseudoVersion matches the versions that Go makes up for commits without a tag, such as v0.0.0-20261129211700-1b840a1c0f3e.
var pseudoVersion = regexp.MustCompile(`[-.]\d{14}-[0-9a-f]{12}(\+|$)`)

// formatVersion is the module's version if it is a release, else the commit with its date. "+changes" marks source that differs from the
// commit. Go knows the commit only when it builds in a checkout and not with -buildvcs=false. info is nil when the program was
// built without modules.
func formatVersion(info *debug.BuildInfo) string {
	if info == nil {
		info = &debug.BuildInfo{}
	}
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	version := strings.Replace(info.Main.Version, "+dirty", "+changes", 1)
	known := version != "" && version != "(devel)"
	revision := settings["vcs.revision"]
	switch {
	case known && !pseudoVersion.MatchString(info.Main.Version):
		return version
	case revision != "":
		text := "commit " + revision[:min(12, len(revision))]
		if date := settings["vcs.time"]; date != "" {
			text += " of " + date
		}
		if settings["vcs.modified"] == "true" {
			text += " +changes"
		}
		return text
	case known:
		return version
	case info.GoVersion != "":
		return "of an unknown commit (built without version control information, by " + info.GoVersion + ")"
	}
	return "of an unknown commit (built without version control information)"
}
