package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"multifactorymodel.org/ewindow/bot/directory"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/bridge/window"
)

// reconnectPause is how long an observer waits before it connects to a window again.
const reconnectPause = 200 * time.Millisecond

// watch observes both windows as their pages do, and prints what has changed.
func (d *demo) watch(ctx context.Context) error {
	w := &watcher{say: d.say, names: make([]string, len(d.state.Windows)), windows: make([]watched, len(d.state.Windows))}
	var all sync.WaitGroup
	for i, p := range d.state.Windows {
		w.names[i] = p.Name
		all.Go(func() { d.observe(ctx, w, i) })
	}
	all.Wait()
	return nil
}

// observe follows one window until ctx ends.
func (d *demo) observe(ctx context.Context, w *watcher, i int) {
	pressed := !d.open
	for ctx.Err() == nil {
		p := &d.state.Windows[i]
		key, err := kiosk.ReadKey(p.dataDir())
		var o *kiosk.Observer
		if err == nil {
			o, err = kiosk.Dial(ctx, p.pageHost(), key)
		}
		for err == nil {
			var s kiosk.State
			if s, err = o.Next(ctx); err != nil {
				break
			}
			w.take(time.Now(), i, s)
			if !pressed && (s.Fault == nil || s.Fault.Code != "network_not_joined") {
				err = o.Press(true)
				pressed = err == nil
			}
		}
		if o != nil {
			_ = o.Close()
		}
		if ctx.Err() == nil {
			w.lose(i)
		}
		select {
		case <-time.After(reconnectPause):
		case <-ctx.Done():
		}
	}
}

// watcher turns the windows' states into lines of text. Its methods may be called from any goroutine.
type watcher struct {
	say   func(string)
	names []string

	mu      sync.Mutex // guards what follows
	windows []watched
	paired  bool      // both know each other
	seeing  bool      // both show each other
	opened  time.Time // when the last of them was opened
}

// watched is the last known state of one window.
type watched struct {
	up      bool
	gone    bool // its program was up, and does not answer any more
	joined  bool
	shutter directory.Shutter
	screen  window.Screen
	knows   bool // it lists the other window, and has joined the other window's room
	fault   window.Fault
}

// take compares a window's new state with the last one, and prints what has changed.
func (w *watcher) take(now time.Time, i int, s kiosk.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, name := &w.windows[i], w.names[i]
	if v.gone {
		w.say(name + " is back")
		v.gone = false
	}
	v.up = true
	joined := s.Fault == nil || s.Fault.Code != "network_not_joined"
	if fault := faultCode(s); fault != v.fault {
		v.fault = fault
		if fault != "" && fault != "network_not_joined" {
			w.say(fmt.Sprintf("%s reports: %s", name, fault))
		}
	}
	v.joined = joined
	if s.Shutter != v.shutter {
		if v.shutter != "" || s.Shutter == "open" {
			w.say(fmt.Sprintf("%s is %s", name, s.Shutter))
		}
		if s.Shutter == "open" {
			w.opened = now
		}
		v.shutter = s.Shutter
	}
	if s.Screen == "lost" && v.screen != "lost" {
		w.say(name + " has lost the other window and tries to get it back")
	}
	v.screen = s.Screen
	v.knows = false
	for _, other := range s.Windows {
		v.knows = v.knows || other.Joined
	}
	w.compare(now)
}

// lose notes that a window's program does not answer.
func (w *watcher) lose(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if v := &w.windows[i]; v.up {
		*v = watched{gone: true, shutter: v.shutter}
		w.say(w.names[i] + "'s program is gone and is started again")
	}
	w.compare(time.Now())
}

// compare prints what has changed for both windows together.
func (w *watcher) compare(now time.Time) {
	paired, seeing := true, true
	for _, v := range w.windows {
		paired = paired && v.knows
		seeing = seeing && v.screen == "visit"
	}
	both := w.names[0] + " and " + w.names[1]
	if paired && !w.paired {
		w.say(both + " are in the network and know each other")
	}
	w.paired = w.paired || paired
	switch {
	case seeing && !w.seeing && !w.opened.IsZero():
		w.say(fmt.Sprintf("%s see each other, %.1f s after opening", both, now.Sub(w.opened).Seconds()))
		w.opened = time.Time{}
	case seeing && !w.seeing:
		w.say(both + " see each other again")
	case !seeing && w.seeing:
		w.say(both + " do not see each other any more")
	}
	w.seeing = seeing
}

func faultCode(s kiosk.State) window.Fault {
	if s.Fault == nil {
		return ""
	}
	return s.Fault.Code
}

// openPages opens each page in a browser window. The browsers get files instead of addresses, because every program on the machine can read their
// command lines. When no browser can be started, people can type the addresses that list prints.
func (d *demo) openPages() {
	for i := range d.state.Windows {
		p := &d.state.Windows[i]
		file := "file://" + filepath.Join(p.dataDir(), kiosk.PageFile)
		for _, command := range [][]string{
			{"chromium", "--app=" + file, "--user-data-dir=" + filepath.Join(p.folder, "browser"), "--no-first-run", "--autoplay-policy=no-user-gesture-required"},
			{"google-chrome", "--app=" + file, "--user-data-dir=" + filepath.Join(p.folder, "browser"), "--no-first-run", "--autoplay-policy=no-user-gesture-required"},
			{"xdg-open", file},
		} {
			program, err := exec.LookPath(command[0])
			if err != nil {
				continue
			}
			d.browse(p.Name, exec.Command(program, command[1:]...))
			break
		}
	}
}

// browse runs a browser until the demonstration ends. It does not start the browser again when somebody closes its window.
func (d *demo) browse(name string, cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		d.say(fmt.Sprintf("%s's page could not be opened by itself: open its address", name))
		return
	}
	d.parts.Go("browser", func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
		defer stop()
		_ = cmd.Wait()
		return nil
	})
}
