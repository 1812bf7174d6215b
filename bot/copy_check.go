package bot

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/event"
)

// runType is the account data that says which run of the bot is the latest. Each run writes a random number there, and to the database. If the
// two differ, the data folder is a copy of one that is in use, or a copy of it was started later.
const runType = "org.multifactorymodel.ewindow.run"

// runContent is the content of runType.
type runContent struct {
	Run string `json:"run"`
}

// refuseCopy compares the number in the account data with that in the database, before Start changes anything. It returns [ErrCopied] if they
// differ.
func (b *Bot) refuseCopy(ctx context.Context, a *session) error {
	var last runContent
	err := b.client.GetAccountData(ctx, runType, &last)
	if err != nil && !errors.Is(err, mautrix.MNotFound) {
		return fmt.Errorf("look for other runs of the bot: %w", err)
	}
	switch {
	case a.Run+a.RunPending == "", last.Run == "", last.Run == a.Run:
		return nil // the folder is new, or no run has written its number to the account yet, or the numbers are equal
	case last.Run == a.RunPending:
		a.Run = last.Run
		return b.session.setRun(ctx, last.Run)
	}
	return copied(a)
}

// beginRun writes this run's number to both places. First the database has it as pending, then the homeserver gets it, then the database
// has it as the present one. If this is interrupted, the next start finds the homeserver's number among the two in the database.
func (b *Bot) beginRun(ctx context.Context, a *session) error {
	run := rand.Text()
	b.knownRuns = append(b.knownRuns, run, a.Run) // sync may still show the previous run's number
	if err := b.session.setPending(ctx, run); err != nil {
		return err
	}
	if err := b.client.SetAccountData(ctx, runType, runContent{run}); err != nil {
		return fmt.Errorf("note this run of the bot: %w", err)
	}
	return b.session.setRun(ctx, run)
}

// checkRun returns an error when sync shows the number of another run.
func (b *Bot) checkRun(events []*event.Event) error {
	for _, e := range events {
		if e.Type.Type != runType {
			continue
		}
		var content runContent
		if err := json.Unmarshal(e.Content.VeryRaw, &content); err != nil || content.Run == "" || slices.Contains(b.knownRuns, content.Run) {
			continue
		}
		self := b.device()
		return copied(&session{User: self.User, Device: self.ID})
	}
	return nil
}

// copied is [ErrCopied] in words for the person who runs the window.
func copied(a *session) error {
	return fmt.Errorf("%w: another ewindow has used the account %s since this one started last. One account is for one window. Use the other "+
		"one only; or, if this window is to go on, empty this data folder, but for the file %s, so that the window gets a new device",
		ErrCopied, a.User, recoveryFile)
}
