package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/newnetwork"
)

func networkCommand() *cli.Command {
	return &cli.Command{
		Name:  "network",
		Usage: "make a network of windows",
		Subcommands: []*cli.Command{{
			Name:  "create",
			Usage: "make the network's Matrix Space with an admin's account",
			Description: "The account that makes the Space is the network's admin: it then invites the windows' accounts into the room of the windows, and\n" +
				"people into the Space, from Element or any other Matrix client. Without --password-file, the command asks for the password.\n\n" +
				"With --upgrade, the command changes the Space of a network that an earlier version made. SPACE is its internal room ID, which\n" +
				"Element shows in the Space's settings.",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "homeserver", Usage: "`URL` of the admin's homeserver, such as https://matrix.example.org", Required: true},
				&cli.StringFlag{Name: "username", Usage: "the admin's account `NAME`", Required: true},
				&cli.StringFlag{Name: "password-file", Usage: "read the password from `FILE`"},
				&cli.StringFlag{Name: "name", Usage: "what the network is called"},
				&cli.StringSliceFlag{Name: "hub", Usage: "invite the account `USER` of a hub as well, such as @ewindow-hub:example.org"},
				&cli.StringFlag{Name: "upgrade", Usage: "change the network `SPACE` instead of making one"},
			},
			Action: func(c *cli.Context) error {
				if c.IsSet("name") == c.IsSet("upgrade") {
					return errors.New("give --name for a new network, or --upgrade for one that exists")
				}
				password, err := readPassword(c)
				if err != nil {
					return err
				}
				client, err := login(c.Context, c.String("homeserver"), c.String("username"), password)
				if err != nil {
					return err
				}
				// The session is for this command alone.
				defer func() { _, _ = client.Logout(context.WithoutCancel(c.Context)) }()
				if old := id.RoomID(c.String("upgrade")); old != "" {
					return upgradeNetwork(c, client, old)
				}
				space, err := newnetwork.Create(c.Context, client, newnetwork.Options{Name: c.String("name"), WindowsRoom: true})
				if err != nil {
					return fmt.Errorf("the network could not be made: %w", err)
				}
				_, err = fmt.Fprintf(c.App.Writer, "network: %s\nIts admin is %s. List this user ID in network.admins of the hub's and each window's configuration. Then, in Element,\n"+
					"invite each window's account into the room \"%s: windows\", and the people who may look in into the Space.\n",
					space, client.UserID, c.String("name"))
				if err != nil {
					return err
				}
				return inviteHubs(c, client, space)
			},
		}},
	}
}

// upgradeNetwork changes the Space of a network that an earlier version made.
func upgradeNetwork(c *cli.Context, client *mautrix.Client, space id.RoomID) error {
	changed, err := newnetwork.Upgrade(c.Context, client, space)
	if err != nil {
		return fmt.Errorf("the network could not be upgraded: %w", err)
	}
	invited, added, err := newnetwork.AddWindowsRoom(c.Context, client, space)
	if err != nil {
		return fmt.Errorf("the network could not be upgraded: %w\nGive the command once more, it goes on from there", err)
	}
	switch {
	case added:
		_, err = fmt.Fprintf(c.App.Writer, "the network %s is upgraded: it has a room for its windows now. Invited there as windows: %s\n"+
			"Remove from that room whoever is none. Others who are in the Space only look in.\n", space, invited)
	case changed:
		_, err = fmt.Fprintf(c.App.Writer, "the network %s is upgraded\n", space)
	default:
		_, err = fmt.Fprintf(c.App.Writer, "the network %s is as this version makes it\n", space)
	}
	if err != nil {
		return err
	}
	return inviteHubs(c, client, space)
}

// inviteHubs invites the hubs' accounts that --hub names into the room of the windows. It invites no account that people have not named: whoever is
// there is a window or a hub.
func inviteHubs(c *cli.Context, client *mautrix.Client, space id.RoomID) error {
	windows, err := newnetwork.WindowsRoom(c.Context, client, space)
	if err != nil {
		return fmt.Errorf("the network's hubs could not be invited: %w", err)
	}
	hubs := c.StringSlice("hub")
	for _, name := range hubs {
		hub := id.UserID(name)
		_, err := client.InviteUser(c.Context, windows, &mautrix.ReqInviteUser{UserID: hub})
		var member event.MemberEventContent
		if errors.Is(err, mautrix.MForbidden) && client.StateEvent(c.Context, windows, event.StateMember, name, &member) == nil && member.Membership == event.MembershipJoin {
			continue // it is there already
		}
		if err != nil {
			return fmt.Errorf("the hub %s could not be invited: %w", hub, err)
		}
		if _, err := fmt.Fprintf(c.App.Writer, "The hub %s is invited there, too.\n", hub); err != nil {
			return err
		}
	}
	if len(hubs) > 0 {
		return nil
	}
	_, err = fmt.Fprintf(c.App.Writer, "Invite each hub's account there, too, such as %s. Before that, nobody can call over the hub.\n",
		id.NewUserID(hubAccount, client.UserID.Homeserver()))
	return err
}

// readPassword reads the password from the file of --password-file, else from a line of standard input.
func readPassword(c *cli.Context) (string, error) {
	var password string
	if file := c.String("password-file"); file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("the password can't be read: %w", err)
		}
		password = strings.TrimSpace(string(data))
	} else {
		fmt.Fprintf(c.App.ErrWriter, "Password of %s: ", c.String("username"))
		var err error
		if password, err = readLine(c.App.Reader); err != nil {
			return "", fmt.Errorf("the password can't be read: %w", err)
		}
		fmt.Fprintln(c.App.ErrWriter)
	}
	if password == "" {
		return "", errors.New("the password is empty")
	}
	return password, nil
}

// readLine reads a line without its end. A terminal does not show what is typed.
func readLine(r io.Reader) (string, error) {
	if file, ok := r.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		line, err := term.ReadPassword(int(file.Fd()))
		return string(line), err
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if errors.Is(err, io.EOF) && line != "" {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}

// login logs in by password. Each login makes a new device.
func login(ctx context.Context, homeserver, username, password string) (*mautrix.Client, error) {
	client, err := mautrix.NewClient(homeserver, "", "")
	if err != nil {
		return nil, fmt.Errorf("--homeserver: %q is not an address such as https://matrix.example.org", homeserver)
	}
	client.Client = http.DefaultClient
	_, err = client.Login(ctx, &mautrix.ReqLogin{
		Type:             mautrix.AuthTypePassword,
		Identifier:       mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: username},
		Password:         password,
		StoreCredentials: true, InitialDeviceDisplayName: "ewindow network",
	})
	switch {
	case errors.Is(err, mautrix.MForbidden):
		return nil, fmt.Errorf("%s refused the password of %s", homeserver, username)
	case err != nil:
		return nil, fmt.Errorf("log in at %s: %w", homeserver, err)
	}
	return client, nil
}
