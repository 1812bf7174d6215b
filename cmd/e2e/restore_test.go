//go:build full

package e2e_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"multifactorymodel.org/ewindow/cmd/e2e/page"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestRestoredWindow: during a visit, Munich's database is replaced by a copy that was made earlier in the same run of its kiosk. Both windows see
// each other again. The same happens once more within the hour.
func TestRestoredWindow(t *testing.T) {
	t.Parallel()
	n := startDemo(t, t.TempDir())
	n.await("know each other", time.Minute)
	pages := n.startPages()
	visit := func(what string) {
		t.Helper()
		for _, p := range pages {
			before := p.Report()
			p.Await(t, time.Minute, what, func(r page.Report) bool {
				return r.Screen == "visit" && r.Pictures > before.Pictures+30 && r.Sounds > before.Sounds+30
			})
		}
	}
	for _, p := range pages {
		p.Command(t, "open")
	}
	visit("the first visit")
	for round := range 2 {
		backup := n.backup(0)
		// Another visit, whose keys come after the copy.
		pages[1].Command(t, "shut")
		pages[0].Await(t, time.Minute, "the window alone", func(r page.Report) bool { return r.Screen == "alone" && len(r.Open) == 0 })
		pages[1].Command(t, "open")
		visit("the visit after the copy")
		n.restore(0, backup)
		begun := time.Now()
		visit(fmt.Sprintf("the visit after Munich was restored, round %d", round+1))
		t.Logf("both windows see each other %.1f s after Munich was restored", time.Since(begun).Seconds())
	}
}

// database is the path of a kiosk's database.
func (n *demoNetwork) database(i int) string {
	return filepath.Join(n.folder, n.Windows[i].Username, "data", "kiosk.db")
}

// backup copies a kiosk's database while the kiosk runs.
func (n *demoNetwork) backup(i int) (path string) {
	n.t.Helper()
	path = filepath.Join(n.t.TempDir(), "kiosk.db")
	db, err := sql.Open("sqlite", "file:"+n.database(i)+"?_pragma=busy_timeout(5000)")
	if err != nil {
		n.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(n.t.Context(), "VACUUM INTO ?", path); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// restore kills a kiosk, replaces its database and lets the demonstration start it again.
func (n *demoNetwork) restore(i int, backup string) {
	n.t.Helper()
	pids := findProcesses(n.kiosk(i)...)
	if len(pids) != 1 {
		n.t.Fatalf("%d processes are %s's kiosk", len(pids), n.Windows[i].Name)
	}
	if err := n.process.Process.Signal(syscall.SIGSTOP); err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = n.process.Process.Signal(syscall.SIGCONT) }()
	_ = syscall.Kill(pids[0], syscall.SIGKILL)
	rig.Eventually(n.t, 10*time.Second, func() error {
		now := findProcesses(n.kiosk(i)...)
		return rig.Check(len(now) == 0, "the kiosk's end", now)
	})
	data, err := os.ReadFile(backup)
	if err != nil {
		n.t.Fatal(err)
	}
	path := n.database(i)
	_ = os.Remove(path + "-wal")
	_ = os.Remove(path + "-shm")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		n.t.Fatal(err)
	}
}
