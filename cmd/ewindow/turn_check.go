package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"multifactorymodel.org/ewindow/bridge/hub"
	"multifactorymodel.org/ewindow/cmd/ewindow/config"
	"multifactorymodel.org/ewindow/cmd/ewindow/turncheck"
	"multifactorymodel.org/ewindow/turnserver"
)

// progressEvery is how often a check that takes long says what it does.
const progressEvery = 2 * time.Second

func turnCheckCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "check whether a TURN server works: ours, coturn or another",
		ArgsUsage: "[URL…]",
		Description: "URL is turn:HOST:3478?transport=udp, turn:HOST:3478?transport=tcp or turns:HOST:443. A bare HOST is tried over UDP, TCP and TLS, on the\n" +
			"usual ports. Without a URL the command checks the relay of the configuration. Flags come before the URL. For each URL the command makes\n" +
			"two allocations, sends packets from one to the other and back, and prints the result. If something does not work, it prints why and\n" +
			"what to do, and the exit code is 1. The command logs in with a secret (coturn's use-auth-secret) or with a name and a password.\n" +
			"Without these it uses the secret of the configuration.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "secret", Usage: "the server's `SECRET`; other users of this machine can see it, so --secret-file is better"},
			&cli.StringFlag{Name: "secret-file", Usage: "read the server's secret from `FILE`"},
			&cli.StringFlag{Name: "username", Usage: "log in as `NAME`, with a password in place of the secret"},
			&cli.StringFlag{Name: "password", Usage: "the name's `PASSWORD`; other users of this machine can see it, so --password-file is better"},
			&cli.StringFlag{Name: "password-file", Usage: "read the name's password from `FILE`"},
			&cli.StringFlag{Name: "ca", Usage: "trust the certificate authorities in `FILE` (PEM) and no others"},
		},
		Action: func(c *cli.Context) error {
			targets, options, err := checkArguments(c)
			if err != nil {
				return err
			}
			return checkTURN(c.Context, targets, options, c.App.Writer, c.App.ErrWriter)
		},
	}
}

// checkArguments reads the command line: which servers to check, and how to log in.
func checkArguments(c *cli.Context) (targets []turncheck.Target, o turncheck.Options, err error) {
	for _, text := range c.Args().Slice() {
		list, err := turncheck.Parse(text)
		if err != nil {
			return nil, o, &usageError{err.Error()}
		}
		targets = append(targets, list...)
	}
	secret, err := secretFlag(c, "secret")
	if err != nil {
		return nil, o, err
	}
	o.Username = c.String("username")
	if o.Password, err = secretFlag(c, "password"); err != nil {
		return nil, o, err
	}
	switch {
	case (o.Username == "") != (o.Password == ""):
		return nil, o, &usageError{"--username and --password (or --password-file) belong together"}
	case o.Username != "" && secret != "":
		return nil, o, &usageError{"--secret and --username are two ways to log in: say only one"}
	}
	if len(targets) == 0 || o.Username == "" && secret == "" {
		cfg, err := config.Load(c.String("config"))
		if err != nil {
			return nil, o, fmt.Errorf("the command line has no address or no secret, so the configuration is needed: %w", err)
		}
		if len(targets) == 0 {
			settings, err := hubConfig(cfg)
			if err != nil {
				return nil, o, fmt.Errorf("%s: %w", c.String("config"), err)
			}
			for _, uri := range hub.TURNURIs(&settings) {
				list, err := turncheck.Parse(uri)
				if err != nil {
					return nil, o, fmt.Errorf("%s: %w", c.String("config"), err)
				}
				targets = append(targets, list...)
			}
			if len(targets) == 0 {
				return nil, o, &usageError{fmt.Sprintf("%s has no relay switched on (hub.turnserver): give the address to check, such as ewindow turn check turn:turn.example.org", c.String("config"))}
			}
		}
		if o.Username == "" && secret == "" {
			secret = cfg.Hub.TurnServer.Secret
		}
	}
	if o.Username == "" {
		if secret == "" {
			return nil, o, &usageError{fmt.Sprintf("there is nothing to log in with: set hub.turnserver.secret in %s, or give --secret-file, or --username and --password-file", c.String("config"))}
		}
		o.Username, o.Password = turnserver.Credentials(secret, hub.CheckName, 10*time.Minute)
	}
	if file := c.String("ca"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, o, fmt.Errorf("--ca: %w", err)
		}
		o.Roots = x509.NewCertPool()
		if !o.Roots.AppendCertsFromPEM(text) {
			return nil, o, fmt.Errorf("--ca: %s holds no certificate (PEM)", file)
		}
	}
	return targets, o, nil
}

// secretFlag returns the text of the flag --name, or of the file that --name-file names.
func secretFlag(c *cli.Context, name string) (string, error) {
	value, file := c.String(name), c.String(name+"-file")
	switch {
	case value != "" && file != "":
		return "", &usageError{fmt.Sprintf("--%s and --%s-file are both given: say only one", name, name)}
	case file == "":
		return value, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--%s-file: %w", name, err)
	}
	if value = strings.TrimSpace(string(text)); value == "" {
		return "", fmt.Errorf("--%s-file: %s is empty", name, file)
	}
	return value, nil
}

// checkTURN checks one target after the other. It writes the results to w. When a check takes long, it writes the present step to progress.
func checkTURN(ctx context.Context, targets []turncheck.Target, o turncheck.Options, w, progress io.Writer) error {
	failed := 0
	for _, target := range targets {
		var step atomic.Value
		step.Store("beginning")
		o.Progress = func(text string) { step.Store(text) }
		done, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			tick := time.NewTicker(progressEvery)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					fmt.Fprintf(progress, "%s: %s\n", target, step.Load())
				case <-done:
					return
				}
			}
		}()
		result, err := turncheck.Check(ctx, target, o)
		close(done)
		<-ended
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			failed++
			fmt.Fprintf(w, "%s  fails: %v\n", target, err)
		case result.Lost*50 > result.Sent:
			fmt.Fprintf(w, "%s  works, with losses that will be seen and heard: %s\n", target, result)
		default:
			fmt.Fprintf(w, "%s  works: %s\n", target, result)
		}
	}
	switch {
	case failed == 1 && len(targets) == 1:
		return errors.New("the way to the relay fails")
	case failed > 0:
		return fmt.Errorf("%d of %d ways to the relay fail", failed, len(targets))
	}
	return nil
}
