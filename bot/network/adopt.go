package network

import (
	"context"
	"errors"
	"maps"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/tasks"
)

// maxHistory is how many of our memberships of a Space are read to find an admin's invitation.
const maxHistory = 50

// candidate is a network's Space that we are in.
type candidate struct {
	space id.RoomID
	// admins says that a configured admin made the Space or the network in it. Nobody else can write these events.
	admins bool
	// home says that our window's room lets the members of this Space in.
	home bool
}

// candidates are the networks' Spaces that we are in, each the latest after upgrades.
func (m *model) candidates() (list []candidate) {
	for _, name := range slices.Sorted(maps.Keys(m.rooms)) {
		if !m.isNetwork(name) || m.latest(name) != name {
			continue
		}
		c := candidate{space: name}
		chain := m.chainOf(name)
		for _, space := range chain {
			r := m.rooms[space]
			c.admins = c.admins || slices.Contains(m.admins, r.creator) || slices.Contains(m.admins, r.networkSender)
		}
		for _, r := range m.rooms {
			c.home = c.home || m.isOwn(r, chain)
		}
		list = append(list, c)
	}
	return list
}

// adoptTask finds the network of a window whose database says nothing about it: that of a new kiosk, or one that an earlier version wrote. The
// account may be in several Spaces then, since earlier versions joined any room that a member had listed. Only a Space counts that a
// configured admin made, or into which a configured admin invited us.
func (n *Network) adoptTask() tasks.Task {
	self, candidates := n.model.self, n.model.candidates()
	return tasks.Task{
		Key: "adopt", What: "find the network that this window is in", Known: true,
		Do: func(ctx context.Context) (func(), error) {
			space, err := n.adoptable(ctx, candidates)
			if err != nil {
				return nil, err
			}
			a := admission{Space: space, Member: space != ""}
			if err := n.store.setAdmission(ctx, self, a); err != nil {
				return nil, err
			}
			return func() {
				n.model.admission, n.saved, n.model.adopting = a, a, false
				switch {
				case space != "":
					n.cfg.Log.Info().Stringer("room_id", space).Msg("This window is in a network")
				case len(candidates) > 0:
					n.cfg.Log.Warn().Int("spaces", len(candidates)).
						Msg("It isn't certain which network an admin has invited this window into, so it is in none: an admin has to invite it again")
				}
			}, nil
		},
	}
}

// adoptable chooses among the candidates. It is empty unless exactly one is the best.
func (n *Network) adoptable(ctx context.Context, list []candidate) (id.RoomID, error) {
	if made := keep(list, func(c candidate) bool { return c.admins }); len(made) == 1 {
		return made[0].space, nil
	}
	var invited []candidate
	for _, c := range list {
		found, err := n.invitedByAdmin(ctx, c.space)
		if err != nil {
			return "", err
		}
		if found {
			invited = append(invited, c)
		}
	}
	if home := keep(invited, func(c candidate) bool { return c.home }); len(home) == 1 {
		return home[0].space, nil
	}
	if len(invited) == 1 {
		return invited[0].space, nil
	}
	if home := keep(list, func(c candidate) bool { return c.home && c.admins }); len(invited) == 0 && len(home) == 1 {
		return home[0].space, nil // the history was not kept
	}
	return "", nil
}

func keep(list []candidate, f func(candidate) bool) []candidate {
	return slices.DeleteFunc(slices.Clone(list), func(c candidate) bool { return !f(c) })
}

// invitedByAdmin says whether a configured admin invited us into a Space. It goes back through our memberships there, each of which names the one
// that it replaced, as far as our homeserver knows it: Dendrite does not after a join through another server. An event with an admin as its sender
// is one that the admin's homeserver signed.
func (n *Network) invitedByAdmin(ctx context.Context, space id.RoomID) (bool, error) {
	client, self := n.cfg.Bot.Client(), n.cfg.Bot.UserID()
	state, err := n.fetch(ctx, space)
	if err != nil {
		return false, err
	}
	var next id.EventID
	for _, e := range state {
		if e.Type.Type == event.StateMember.Type && e.GetStateKey() == string(self) {
			next = e.ID
		}
	}
	for range maxHistory {
		if next == "" {
			break
		}
		e, err := client.GetEvent(ctx, space, next)
		switch {
		case errors.Is(err, mautrix.MNotFound), errors.Is(err, mautrix.MForbidden):
			return false, nil
		case err != nil:
			return false, err
		case e.RoomID != "" && e.RoomID != space, e.Type.Type != event.StateMember.Type, e.GetStateKey() != string(self):
			return false, nil
		case slices.Contains(n.cfg.Admins, e.Sender) && membershipOf(contentOf(e)) == event.MembershipInvite:
			return true, nil
		}
		next = e.Unsigned.ReplacesState
	}
	return false, nil
}
