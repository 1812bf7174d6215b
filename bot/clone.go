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

// runType is the account data that says which run of the bot is the latest. Each run writes a random number there. The database holds the
// same number: a data folder whose number is another one is a copy of the folder that is in use, or the folder that a copy has overtaken.
const runType = "org.multifactorymodel.ewindow.run"

// runContent is its content.
type runContent struct {
	Run string `json:"run"`
}

// refuseCopy compares the two numbers, before the start changes anything.
func (b *Bot) refuseCopy(ctx context.Context, a *account) error {
	var last runContent
	err := b.client.GetAccountData(ctx, runType, &last)
	if err != nil && !errors.Is(err, mautrix.MNotFound) {
		return fmt.Errorf("look for other runs of the bot: %w", err)
	}
	switch {
	case a.Run+a.RunPending == "", last.Run == "", last.Run == a.Run:
		return nil // a folder that has not run yet is no copy, and an account without a number has not met one
	case last.Run == a.RunPending:
		a.Run = last.Run
		return b.account.setRun(ctx, last.Run)
	}
	return copied(a)
}

// beginRun puts this run's number in both places. First it is noted as pending, then the homeserver is told, then it counts: wherever
// that is interrupted, the next start finds the homeserver's number among the two in the database.
func (b *Bot) beginRun(ctx context.Context, a *account) error {
	run := rand.Text()
	b.knownRuns = append(b.knownRuns, run, a.Run) // what sync says may lag behind
	if err := b.account.setPending(ctx, run); err != nil {
		return err
	}
	if err := b.client.SetAccountData(ctx, runType, runContent{run}); err != nil {
		return fmt.Errorf("note this run of the bot: %w", err)
	}
	return b.account.setRun(ctx, run)
}

// checkRun looks at account data that sync has brought.
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
		return copied(&account{User: self.User, Device: self.ID})
	}
	return nil
}

func copied(a *account) error {
	return fmt.Errorf("%w: another ewindow has used the account %s since this one started last. One account is for one window. Use the other "+
		"one only; or, if this window is to go on, empty this data folder, but for the file %s, so that the window gets a new device",
		ErrCopied, a.User, recoveryFile)
}
