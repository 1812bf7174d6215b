package rig

import (
	"testing"

	"multifactorymodel.org/ewindow/bridge/child"
)

// Program returns the path of an upstream server's program. If there is none, it builds one, which takes a minute or two.
func Program(t testing.TB, p child.Program) string {
	t.Helper()
	path, err := child.Find(t.Context(), p, "", func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	return path
}
