package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/bot/commands"
	"multifactorymodel.org/ewindow/bot/network"
	"multifactorymodel.org/ewindow/bot/rtc"
	"multifactorymodel.org/ewindow/bot/verification"
	"multifactorymodel.org/ewindow/bridge"
	"multifactorymodel.org/ewindow/bridge/kiosk"
	"multifactorymodel.org/ewindow/bridge/lifecycle"
	"multifactorymodel.org/ewindow/bridge/metrics"
	rules "multifactorymodel.org/ewindow/bridge/window"
	"multifactorymodel.org/ewindow/callmedia"
	"multifactorymodel.org/ewindow/callmedia/page"
	"multifactorymodel.org/ewindow/cmd/ewindow/config"
	"multifactorymodel.org/ewindow/migrations"
	"multifactorymodel.org/ewindow/turnserver/addrpolicy"
)

func kioskCommand() *cli.Command {
	return &cli.Command{
		Name:  "kiosk",
		Usage: "run a window: its bot, its media and the page for its screen",
		Flags: []cli.Flag{configFlag()},
		Action: func(c *cli.Context) error {
			cfg, log, err := load(c, config.Kiosk)
			if err != nil {
				return err
			}
			return runKiosk(c.Context, cfg, log)
		},
	}
}

// runKiosk runs a window until ctx ends.
func runKiosk(ctx context.Context, cfg *config.Config, log zerolog.Logger) error {
	parts := lifecycle.NewGroup(log)
	defer parts.Close()
	db, err := migrations.OpenKiosk(ctx, filepath.Join(cfg.DataDir, "kiosk.db"), log)
	if err != nil {
		return err
	}
	parts.OnClose("database", db.Close)

	// Every part reports to the bridge. The bridge needs all parts, so it is made last.
	var window *bridge.Bridge
	admins := make([]id.UserID, len(cfg.Network.Admins))
	for i, admin := range cfg.Network.Admins {
		admins[i] = id.UserID(admin)
	}
	matrix, err := bot.New(bot.Config{
		HomeserverURL: cfg.Homeserver.URL, Username: cfg.Homeserver.Username, Password: cfg.Homeserver.Password,
		DeviceName: cfg.Homeserver.DeviceName, AcceptUnsignedDevices: cfg.Homeserver.AcceptUnsignedDevices,
		DB: db, DataDir: cfg.DataDir, Log: log.With().Str("part", "bot").Logger(),
		OnHomeserver:  func(online bool, since time.Time) { window.HandleHomeserver(online, since) },
		Verifiers:     admins,
		OnEmoji:       func(e *verification.Emoji) { window.HandleEmoji(e) },
		OnNewIdentity: func(user id.UserID, key id.Ed25519) { window.HandleIdentity(user, key) },
	})
	if err != nil {
		return err
	}
	commands.Watch(matrix, admins, func(c commands.Command) { window.HandleCommand(c) })
	networks, err := config.Prefixes(cfg.Media.AllowNetworks)
	if err != nil {
		return fmt.Errorf("media.allow_networks: %w", err)
	}
	allowed := addrpolicy.PublicOr(networks)
	calls, err := rtc.NewManager(rtc.Config{
		Bot: matrix, DB: db, FallbackService: cfg.Media.LiveKitServiceURL, KnownServices: cfg.Media.KnownServices, Allowed: allowed,
		Log: log.With().Str("part", "rtc").Logger(),
		OnMembers: func(room id.RoomID, members []rtc.Member, ended []bot.Device) {
			window.HandleMembers(room, members, ended...)
		},
		OnDecline:    func(d rtc.Decline) { window.HandleDecline(d.Room, d.Sender, d.Event) },
		OnLegacyCall: func(room id.RoomID, sender id.UserID) { window.HandleLegacyCall(room, sender) },
		OnRing:       func(r rtc.Ring) { window.HandleRing(r.Room, r.Sender, r.Event, r.Expires) },
	})
	if err != nil {
		return err
	}
	directory, err := network.New(network.Config{
		Bot: matrix, DB: db, Admins: admins, Name: cfg.Window.Name, City: cfg.Window.City, Timezone: cfg.Window.Timezone,
		Languages: cfg.Window.Languages, Log: log.With().Str("part", "network").Logger(),
		OnChange: func() { window.HandleDirectory() },
	})
	if err != nil {
		return err
	}
	media, err := page.New(page.Config{
		Log: log.With().Str("part", "page").Logger(), OnEvent: func(e page.Event) { window.HandleMedia(e) },
	})
	if err != nil {
		return err
	}
	screen, err := kiosk.New(kiosk.Config{
		Listen: cfg.Kiosk.Listen, DataDir: cfg.DataDir, Log: log.With().Str("part", "kiosk").Logger(),
		HandleMessage: func(m kiosk.Message) { window.HandlePage(m) },
	})
	if err != nil {
		return err
	}
	var mediaCounters callmedia.Counters // shared by all sessions, of which one runs at a time
	var line callmedia.Line
	window, err = bridge.New(bridge.Config{
		Name: cfg.Window.Name, City: cfg.Window.City, Timezone: cfg.Window.Timezone, Languages: cfg.Window.Languages,
		Countdown: cfg.Kiosk.Countdown, TestPattern: cfg.Kiosk.TestPattern, GuestsUnseen: cfg.Window.GuestsUnseen,
		Directory: directory, Screen: screen, Page: media, Calls: matrixCalls{calls, matrix},
		NewSession: func(service string, token bridge.TokenFunc, onEvent func(callmedia.SessionEvent)) (bridge.Session, error) {
			return callmedia.NewSession(callmedia.SessionConfig{
				Local: media, Service: service, Token: token, OnEvent: onEvent, PictureLimit: rules.PictureGrace, Counters: &mediaCounters, Line: &line,
				AllowLoopback: cfg.Media.AllowLoopback, ForceRelay: cfg.Media.ForceRelay, Allowed: allowed,
				MaxBitrate: cfg.Media.MaxVideoBitrateKbit * 1000, Log: log.With().Str("part", "callmedia").Logger(),
			})
		},
		Log: log.With().Str("part", "bridge").Logger(),
	})
	if err != nil {
		return err
	}

	// The page is served first, so that people see what happens while the bot waits for the homeserver.
	if err := screen.Start(ctx); err != nil {
		return err
	}
	parts.OnClose("page's server", screen.Close)
	parts.OnClose("page's media", media.Close)
	if err := metrics.Serve(parts, cfg.Metrics.Listen, log, metrics.Bot(matrix.Stats), metrics.Calls(calls.Stats), metrics.Network(directory.Stats),
		metrics.Media(mediaCounters.Stats), metrics.Page(screen.Counters)); err != nil {
		// A window must not stay dark because of its figures. The hub on the same machine may use the same file, and so the same address.
		log.Warn().Err(err).Msg("The window runs without metrics: give metrics.listen another address")
	}
	// The bridge starts before the bot, so that the screen can say that the homeserver does not answer. It ends before the bot, because the bot
	// must still send that the window leaves its call.
	parts.GoEndingFirst("bridge", window.Run)
	if err := matrix.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // the program was told to end while the bot waited
		}
		return err
	}
	parts.Go("bot", matrix.Run)
	parts.Go("network", directory.Run)
	parts.Go("calls", calls.Run)
	return parts.Wait(ctx)
}

// matrixCalls is the Matrix side of calls as the bridge needs it: the manager of calls, and what the bot knows about rooms.
type matrixCalls struct {
	*rtc.Manager
	bot *bot.Bot
}

// Join enters the call of a room.
func (c matrixCalls) Join(room id.RoomID, opts rtc.JoinOptions) (bridge.Call, error) {
	return c.Manager.Join(room, opts)
}

// UserID is the bot's.
func (c matrixCalls) UserID() id.UserID { return c.bot.UserID() }

// KnowIdentities asks for the identities of users of whom none is known.
func (c matrixCalls) KnowIdentities(ctx context.Context, users []id.UserID) error {
	return c.bot.KnowIdentities(ctx, users)
}

// ConfirmIdentity makes a user's new identity the trusted one.
func (c matrixCalls) ConfirmIdentity(ctx context.Context, user id.UserID, key id.Ed25519) error {
	return c.bot.ConfirmIdentity(ctx, user, key)
}

// AnswerEmoji says whether people see the same emoji as the other side of a comparison.
func (c matrixCalls) AnswerEmoji(ctx context.Context, same bool) error {
	return c.bot.AnswerEmoji(ctx, same)
}

// People are the users in a room.
func (c matrixCalls) People(ctx context.Context, room id.RoomID) ([]id.UserID, error) {
	return c.bot.Members(ctx, room)
}
