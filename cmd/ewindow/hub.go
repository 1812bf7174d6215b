package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"

	"github.com/urfave/cli/v2"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/bridge/hub"
	"multifactorymodel.org/ewindow/cmd/ewindow/config"
)

func hubCommand() *cli.Command {
	return &cli.Command{
		Name:        "hub",
		Usage:       "run the network's small server: TURN relay, MatrixRTC focus, homeserver, each if switched on",
		Flags:       []cli.Flag{configFlag()},
		Subcommands: []*cli.Command{hubAccountCommand(), hubSnippetCommand()},
		Action: func(c *cli.Context) error {
			cfg, log, err := load(c, config.Hub)
			if err != nil {
				return err
			}
			settings, err := hubConfig(cfg)
			if err != nil {
				return fmt.Errorf("%s: %w", c.String("config"), err)
			}
			settings.Log = log
			return hub.Run(c.Context, settings)
		},
	}
}

func hubAccountCommand() *cli.Command {
	return &cli.Command{
		Name:      "account",
		Usage:     "make a Matrix account on the hub's homeserver, which must be running; a new password is printed",
		ArgsUsage: "NAME",
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: "admin", Usage: "make it an administrator of the homeserver"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return &usageError{"one name is needed, such as: ewindow hub account window-dresden"}
			}
			cfg, err := config.Load(c.String("config"))
			if err != nil {
				return err
			}
			h := &cfg.Hub.Homeserver
			if h.URL != "" || !h.Enabled {
				return errors.New("this hub runs no homeserver of its own: make accounts where yours runs")
			}
			if h.Port == 0 {
				return errors.New("hub.homeserver.port is 0: give the homeserver a fixed port, so that accounts can be made there")
			}
			password := rand.Text()
			user, err := homeserver.Register(c.Context, http.DefaultClient, fmt.Sprintf("http://127.0.0.1:%d", h.Port),
				h.RegistrationSecret, c.Args().First(), password, c.Bool("admin"))
			if err != nil {
				return fmt.Errorf("the account could not be made: %w", err)
			}
			_, err = fmt.Fprintf(c.App.Writer, "account:  %s\npassword: %s\n", user, password)
			return err
		},
	}
}
