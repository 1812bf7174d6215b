// Command ewindow is the electronic window: the kiosk's daemon, the network's hub, and a demonstration of both on one machine.
//
// Each command has a file of its own. A command reads its flags and the configuration, connects packages with one another, and runs them. All
// decisions are in those packages. Start reading at kiosk.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"multifactorymodel.org/ewindow/cmd/ewindow/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal the handler is removed, so that a second one ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// run returns the exit code: 0 after an orderly end, 1 when something could not be done, 2 for a wrong command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	app := newApp(stdout, stderr)
	err := app.RunContext(ctx, arrange(app.Commands, args))
	var usage *usageError
	switch {
	case err == nil, errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "ewindow: %v\n", err)
		return 2
	default:
		fmt.Fprintf(stderr, "ewindow: %v\n", err)
		return 1
	}
}

// newApp has all commands.
func newApp(stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:      "ewindow",
		Usage:     "an electronic window between workshops: simple, open source, encrypted",
		Version:   version(),
		Writer:    stdout,
		ErrWriter: stderr,
		Commands: []*cli.Command{
			kioskCommand(), hubCommand(), turnCommand(), networkCommand(), demoCommand(), versionCommand(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return &usageError{fmt.Sprintf("there is no command %q: \"ewindow help\" lists them", c.Args().First())}
			}
			return cli.ShowAppHelp(c)
		},
		ExitErrHandler: func(*cli.Context, error) {}, // run prints errors itself
	}
	explainUsage(app.Commands)
	app.OnUsageError = onUsageError
	return app
}

// usageError is a mistake on the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// explainUsage turns wrong flags of all commands into usage errors.
func explainUsage(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = onUsageError
		explainUsage(c.Subcommands)
	}
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	return &usageError{fmt.Sprintf("%v: \"ewindow help\" shows the commands and flags", err)}
}

// configFlag names the configuration file.
func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Value: "config.yaml", Usage: "read settings from `FILE`"}
}

// load reads and checks the configuration for one role. It makes the data folder and the log.
func load(c *cli.Context, role config.Role) (*config.Config, zerolog.Logger, error) {
	if c.NArg() > 0 {
		return nil, zerolog.Nop(), &usageError{fmt.Sprintf("%q is not expected here: \"ewindow help %s\" shows the arguments", c.Args().First(), c.Command.Name)}
	}
	cfg, err := config.Load(c.String("config"))
	if err != nil {
		return nil, zerolog.Nop(), err
	}
	if err := cfg.Validate(role); err != nil {
		return nil, zerolog.Nop(), fmt.Errorf("%s:\n%w", c.String("config"), err)
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, zerolog.Nop(), fmt.Errorf("the data folder %s can't be made (%w): make it, or set data_dir to a folder that may be written", cfg.DataDir, err)
	}
	return cfg, newLog(cfg.Logging, c.App.ErrWriter), nil
}

// newLog makes the program's log.
func newLog(cfg config.LoggingConfig, to io.Writer) zerolog.Logger {
	level, err := zerolog.ParseLevel(cfg.Level)
	if err != nil {
		level = zerolog.InfoLevel
	}
	zerolog.TimeFieldFormat = time.RFC3339Nano
	if cfg.Format == "json" {
		return zerolog.New(to).Level(level).With().Timestamp().Logger()
	}
	plain := zerolog.ConsoleWriter{Out: to, NoColor: true, TimeFormat: "15:04:05.000"}
	return zerolog.New(plain).Level(level).With().Timestamp().Logger()
}
