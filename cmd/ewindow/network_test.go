package main

import (
	"strings"
	"testing"
)

// TestReadLine reads passwords as people type them: with spaces, and with or without an end of line.
func TestReadLine(t *testing.T) {
	for text, want := range map[string]string{
		"secret\n": "secret", "correct horse battery\r\n": "correct horse battery", "no end": "no end", "one\ntwo\n": "one", "\n": "",
	} {
		if got, err := readLine(strings.NewReader(text)); got != want || err != nil {
			t.Errorf("%q gives %q, %v", text, got, err)
		}
	}
	if _, err := readLine(strings.NewReader("")); err == nil {
		t.Error("a closed input gives a password")
	}
}
