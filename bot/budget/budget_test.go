package budget

import (
	"fmt"
	"testing"
	"time"

	"maunium.net/go/mautrix/id"
)

func TestBudget(t *testing.T) {
	l := NewWork()
	now := time.Now()
	count := func(user func(n int) id.UserID) (n int) {
		for i := range 1000 {
			if l.Allow(user(i), now) {
				n++
			}
		}
		return n
	}
	if n := count(func(int) id.UserID { return "@a:x" }); n != perUser {
		t.Errorf("one user: %d", n)
	}
	if n := count(func(n int) id.UserID { return id.UserID(fmt.Sprintf("@%d:x", n)) }); n != perServer-perUser {
		t.Errorf("one server: %d", n)
	}
	if n := count(func(n int) id.UserID { return id.UserID(fmt.Sprintf("@a:%d", n)) }); n != perMinute-perServer {
		t.Errorf("all servers: %d", n)
	}
	now = now.Add(time.Minute)
	if !l.Allow("@a:x", now) {
		t.Error("the limit has no end")
	}
}
