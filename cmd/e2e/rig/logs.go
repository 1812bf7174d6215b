package rig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// KeepLogs prints the last lines of each log in a folder, and in those below it, if the test has failed. It copies the logs to the folder that EWINDOW_SHOTS
// names, if any.
func KeepLogs(t testing.TB, folder string, lines int) {
	t.Helper()
	to := os.Getenv("EWINDOW_SHOTS")
	if to == "" && !t.Failed() {
		return
	}
	for _, pattern := range []string{"*/data/*.log", "*.log", "*/*.log"} {
		files, _ := filepath.Glob(filepath.Join(folder, pattern))
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			name := strings.ReplaceAll(strings.TrimPrefix(file, folder+"/"), "/", "-")
			if t.Failed() {
				text := strings.Split(strings.TrimSpace(string(data)), "\n")
				t.Logf("the last lines of %s:\n%s", name, strings.Join(text[max(0, len(text)-lines):], "\n"))
			}
			if to != "" {
				_ = os.WriteFile(filepath.Join(to, t.Name()+"-"+name), data, 0o600)
			}
		}
	}
}
