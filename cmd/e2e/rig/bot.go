package rig

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/migrations"
)

// BotAccount is a Matrix account for a bot, with a data folder.
type BotAccount struct {
	User     id.UserID
	Password string
	// Dir is the data folder.
	Dir string

	hs *Homeserver
}

// NewBotAccount registers an account and makes an empty data folder for it.
func NewBotAccount(t testing.TB, hs *Homeserver, name string) BotAccount {
	t.Helper()
	user, password := hs.Register(t, name)
	return BotAccount{User: user, Password: password, Dir: t.TempDir(), hs: hs}
}

// Config returns the configuration of a bot with this account. It opens the database and closes it when the test ends. A test may close the
// configuration's DB earlier: closing it twice does no harm.
func (a BotAccount) Config(t testing.TB) bot.Config {
	t.Helper()
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel).With().Stringer("bot", a.User).Logger()
	db, err := migrations.OpenKiosk(t.Context(), filepath.Join(a.Dir, "kiosk.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return bot.Config{
		HomeserverURL: a.hs.URL, Username: a.User.String(), Password: a.Password, DB: db, DataDir: a.Dir, Log: log,
	}
}

// NewBot makes a bot with a new account. Register its handlers before [RunBot].
func NewBot(t testing.TB, hs *Homeserver, name string) *bot.Bot {
	t.Helper()
	b, err := bot.New(NewBotAccount(t, hs, name).Config(t))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RunBot starts a bot and runs it. When RunBot returns, the bot has started. The bot stops when the test ends, or earlier when stop is called.
// stop waits for the bot's end.
func RunBot(t testing.TB, b *bot.Bot) (stop func()) {
	t.Helper()
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}
