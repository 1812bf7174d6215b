package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"multifactorymodel.org/ewindow/bridge/hub"
	"multifactorymodel.org/ewindow/cmd/ewindow/config"
)

func turnCommand() *cli.Command {
	return &cli.Command{
		Name:        "turn",
		Usage:       "run the TURN relay alone, or check a TURN server",
		Flags:       []cli.Flag{configFlag()},
		Subcommands: []*cli.Command{turnCheckCommand()},
		Action: func(c *cli.Context) error {
			cfg, log, err := load(c, config.Turn)
			if err != nil {
				return err
			}
			// The relay is a hub without its other parts.
			cfg.Hub.Focus.Enabled, cfg.Hub.Homeserver.Enabled = false, false
			settings, err := hubConfig(cfg)
			if err != nil {
				return fmt.Errorf("%s: %w", c.String("config"), err)
			}
			settings.Log = log
			return hub.Run(c.Context, settings)
		},
	}
}
