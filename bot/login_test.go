package bot_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"maunium.net/go/mautrix/event"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

func TestRestart(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	cfg := account.Config(t)
	first := newBot(t, cfg)
	stop := rig.RunBot(t, first)
	if first.UserID() != account.User || first.DeviceID() == "" || first.ServerName() != hs.ServerName {
		t.Fatalf("it is %s on device %q of %s", first.UserID(), first.DeviceID(), first.ServerName())
	}
	info, err := os.Stat(filepath.Join(account.Dir, "recovery-key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the recovery key: %v %v", info, err)
	}
	munich := rig.NewBot(t, hs, "munich")
	in := listen(munich)
	rig.RunBot(t, munich)
	meet(t, first, munich)
	deliver(t, first, munich, in, "before")
	room := makeRoom(t, first)
	stop()
	if err := cfg.DB.Close(); err != nil {
		t.Fatal(err)
	}

	second := newBot(t, account.Config(t))
	own := listen(second, event.StateEncryption, event.StateMember)
	rig.RunBot(t, second)
	if device(second) != device(first) {
		t.Fatalf("device %s became %s", first.DeviceID(), second.DeviceID())
	}
	deliver(t, second, munich, in, "after")
	// The state of the rooms was dispatched again.
	next(t, "the room's encryption", own.events, func(e *event.Event) bool { return e.RoomID == room && e.Type == event.StateEncryption })
	if encrypted, err := second.Encrypted(t.Context(), room); err != nil || !encrypted {
		t.Fatal(encrypted, err)
	}
	devices, err := munich.Client().QueryKeys(t.Context(), queryFor(second))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(devices.DeviceKeys[second.UserID()]); n != 1 {
		t.Errorf("the user has %d devices", n)
	}
}

func TestConfig(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	cfg := account.Config(t)

	wrong := cfg
	wrong.Password = "wrong"
	startError(t, wrong, bot.ErrPassword)

	local := cfg
	local.Username = "Dresden"
	rig.RunBot(t, newBot(t, local))()

	other, password := hs.Register(t, "munich")
	wrong = cfg
	wrong.Username, wrong.Password = other.String(), password
	startError(t, wrong, bot.ErrMismatch)

	// The same name on another homeserver is another account. The session's token must not be sent there.
	elsewhere := rig.StartHomeserver(t)
	_, password = elsewhere.Register(t, "dresden")
	wrong = cfg
	wrong.HomeserverURL, wrong.Username, wrong.Password = elsewhere.URL, "dresden", password
	startError(t, wrong, bot.ErrMismatch)

	for name, change := range map[string]func(*bot.Config){
		"url":      func(c *bot.Config) { c.HomeserverURL = "matrix.example.org" },
		"username": func(c *bot.Config) { c.Username = "@" },
		"password": func(c *bot.Config) { c.Password = "" },
		"database": func(c *bot.Config) { c.DB = nil },
		"folder":   func(c *bot.Config) { c.DataDir = "" },
	} {
		bad := cfg
		change(&bad)
		if _, err := bot.New(bad); err == nil {
			t.Errorf("a bad %s passes", name)
		}
	}
}

// TestLoggedOut: somebody removes the bot's device. The next start makes it again, with the same keys.
func TestLoggedOut(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	cfg := account.Config(t)
	b := newBot(t, cfg)
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := device(b)
	if _, err := b.Client().Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Run(t.Context()); !errors.Is(err, bot.ErrLoggedOut) {
		t.Fatal(err)
	}
	munich := rig.NewBot(t, hs, "munich")
	in := listen(munich)
	rig.RunBot(t, munich)
	again := newBot(t, cfg)
	own := listen(again)
	rig.RunBot(t, again)
	meet(t, again, munich)
	if device(again) != before {
		t.Errorf("device %s became %s", before.ID, again.DeviceID())
	}
	deliver(t, again, munich, in, "out")
	deliver(t, munich, again, own, "in")
}

// TestNewFolder: the data folder is lost. With the recovery key the window gets a new device that others trust. Without it the start fails.
func TestNewFolder(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	munich := rig.NewBot(t, hs, "munich")
	in := listen(munich)
	rig.RunBot(t, munich)
	first := newBot(t, account.Config(t))
	stop := rig.RunBot(t, first)
	meet(t, first, munich)
	deliver(t, first, munich, in, "before")
	stop()

	fresh := account
	fresh.Dir = t.TempDir()
	startError(t, fresh.Config(t), bot.ErrIdentity)

	fresh.Dir = t.TempDir()
	key, err := os.ReadFile(filepath.Join(account.Dir, "recovery-key"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(fresh.Dir, "recovery-key")
	if err := os.WriteFile(path, append([]byte(" \n"), key...), 0o644); err != nil {
		t.Fatal(err)
	}
	second := newBot(t, fresh.Config(t))
	rig.RunBot(t, second)
	if second.DeviceID() == first.DeviceID() {
		t.Error("a new folder has the old device")
	}
	deliver(t, second, munich, in, "after")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the recovery key is left readable: %v %v", info, err)
	}

	fresh.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(fresh.Dir, "recovery-key"), []byte("EsT0 this is no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	startError(t, fresh.Config(t), bot.ErrIdentity)
}

// TestCopied: two bots run on copies of one data folder.
func TestCopied(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	cfg := account.Config(t)
	rig.RunBot(t, newBot(t, cfg))()
	if err := cfg.DB.Close(); err != nil {
		t.Fatal(err)
	}
	twin := account
	twin.Dir = copyFolder(t, account.Dir)

	// While the original runs, the copy must not.
	cfg = account.Config(t)
	original := newBot(t, cfg)
	if err := original.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- original.Run(t.Context()) }()
	startError(t, twin.Config(t), bot.ErrCopied)

	// A copy of the present folder cannot be told from the original, so it starts. Then the original ends.
	late := account
	late.Dir = copyFolder(t, account.Dir)
	rig.RunBot(t, newBot(t, late.Config(t)))
	if err := next(t, "the original's end", ended, nil); !errors.Is(err, bot.ErrCopied) {
		t.Fatal(err)
	}
	startError(t, cfg, bot.ErrCopied)
}

// TestInterruptedRun: a power cut at any moment of the start does not look like a copy.
func TestInterruptedRun(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	cfg := account.Config(t)
	rig.RunBot(t, newBot(t, cfg))()
	const run = "org.multifactorymodel.ewindow.run"
	for name, interrupt := range map[string]func(b *bot.Bot) error{
		"noted": func(*bot.Bot) error {
			_, err := cfg.DB.Exec(t.Context(), "UPDATE ewindow_account SET run_pending='next'")
			return err
		},
		"told": func(b *bot.Bot) error {
			if _, err := cfg.DB.Exec(t.Context(), "UPDATE ewindow_account SET run_pending='next'"); err != nil {
				return err
			}
			return b.Client().SetAccountData(t.Context(), run, map[string]string{"run": "next"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBot(t, cfg)
			rig.RunBot(t, b)()
			if err := interrupt(b); err != nil {
				t.Fatal(err)
			}
			rig.RunBot(t, newBot(t, cfg))
		})
	}
}

func TestHomeserverAway(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	munich := rig.NewBot(t, hs, "munich")
	in := listen(munich)
	rig.RunBot(t, munich)

	hs.Kill(t)
	changes := make(chan bool, 100)
	cfg := account.Config(t)
	cfg.OnHomeserver = func(online bool, since time.Time) {
		if time.Since(since) > limit {
			t.Errorf("since %s", since)
		}
		changes <- online
	}
	b := newBot(t, cfg)
	own := listen(b)
	var started atomic.Bool
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		err := b.Start(ctx)
		started.Store(true)
		if err == nil {
			err = b.Run(ctx)
		}
		ended <- err
	}()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	if next(t, "the bad news", changes, nil) || started.Load() {
		t.Fatal("a homeserver that is away counts as reached")
	}
	hs.Restart(t)
	if !next(t, "the good news", changes, nil) {
		t.Fatal("told twice")
	}
	rig.Eventually(t, limit, func() error {
		if !started.Load() {
			return errors.New("it has not started")
		}
		return nil
	})
	meet(t, b, munich)
	deliver(t, b, munich, in, "out")
	deliver(t, munich, b, own, "in")

	// While it runs.
	hs.Kill(t)
	if next(t, "the bad news", changes, nil) {
		t.Fatal("told twice")
	}
	begun := time.Now()
	hs.Restart(t)
	next(t, "the good news", changes, nil)
	t.Log("back after ", time.Since(begun))
	deliver(t, b, munich, in, "out again")
	deliver(t, munich, b, own, "in again")
}
