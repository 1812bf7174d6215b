package bot_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

// TestRestored: a window's database is replaced by a copy that was taken in mid-run, twice within an hour. Both sides understand each other again.
func TestRestored(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	cfg := account.Config(t)
	dresden, munich := newBot(t, cfg), rig.NewBot(t, hs, "munich")
	atDresden, atMunich := listen(dresden), listen(munich)
	stop := rig.RunBot(t, dresden)
	rig.RunBot(t, munich)
	room := meet(t, dresden, munich)
	talk := func(rounds int) {
		t.Helper()
		for n := range rounds {
			deliver(t, dresden, munich, atMunich, fmt.Sprint("there ", n))
			deliver(t, munich, dresden, atDresden, fmt.Sprint("and back ", n))
			if _, err := dresden.Send(t.Context(), room, testType, message{"in the room"}); err != nil {
				t.Fatal(err)
			}
			next(t, "the room's message", atMunich.events, nil)
		}
	}
	talk(2)
	for round := range 2 {
		backup := filepath.Join(t.TempDir(), "kiosk.db")
		if _, err := cfg.DB.Exec(t.Context(), "VACUUM INTO $1", backup); err != nil {
			t.Fatal(err)
		}
		talk(3)
		useUp(t, munich.Client(), dresden)
		stop()
		if err := cfg.DB.Close(); err != nil {
			t.Fatal(err)
		}
		restore(t, backup, account.Dir)

		cfg = account.Config(t)
		dresden = newBot(t, cfg)
		atDresden = listen(dresden)
		stop = rig.RunBot(t, dresden)
		insist(t, munich, dresden, atDresden, fmt.Sprint("who is there? ", round))
		insist(t, dresden, munich, atMunich, fmt.Sprint("me again ", round))
		talk(1)
		// The homeserver still has one-time keys from after the copy, whose private halves are lost.
		useUp(t, munich.Client(), dresden)
		newcomer := rig.NewBot(t, hs, fmt.Sprint("bologna", round))
		rig.RunBot(t, newcomer)
		meet(t, dresden, newcomer)
		insist(t, newcomer, dresden, atDresden, "nice to meet you")
	}
}

// useUp claims most of a bot's one-time keys, and waits until it has uploaded new ones.
func useUp(t *testing.T, client *mautrix.Client, b *bot.Bot) {
	t.Helper()
	for range 30 {
		if _, err := client.ClaimKeys(t.Context(), &mautrix.ReqClaimKeys{
			OneTimeKeys: mautrix.OneTimeKeysRequest{b.UserID(): {b.DeviceID(): id.KeyAlgorithmSignedCurve25519}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	rig.Eventually(t, 2*limit, func() error {
		// Dendrite tells the count with the next response only.
		sendPlain(t, client, device(b), "org.example.unheard", map[string]any{})
		answer, err := b.Client().UploadKeys(t.Context(), &mautrix.ReqUploadKeys{})
		if err != nil {
			return err
		}
		return rig.Check(answer.OneTimeKeyCounts.SignedCurve25519 >= 40, "new one-time keys", answer.OneTimeKeyCounts.SignedCurve25519)
	})
}

// insist sends a message again and again, as media keys are sent, until it was received.
func insist(t *testing.T, from, to *bot.Bot, in *inbox, text string) {
	t.Helper()
	rig.Eventually(t, limit, func() error {
		if err := from.SendToDevice(t.Context(), testType, map[bot.Device]any{device(to): message{text}})[device(to)]; err != nil {
			return err
		}
		timer := time.NewTimer(time.Second)
		defer timer.Stop()
		for {
			select {
			case e := <-in.toDevice:
				if textOf(e.Content) == text {
					return nil
				}
			case <-timer.C:
				return fmt.Errorf("%q has not come", text)
			}
		}
	})
}

// restore replaces the database of a data folder.
func restore(t *testing.T, backup, folder string) {
	t.Helper()
	path := filepath.Join(folder, "kiosk.db")
	for _, old := range []string{path + "-wal", path + "-shm", path} {
		if err := os.Remove(old); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(backup)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPickleKey: the key of the crypto tables is not in the database. An earlier version's key moves out of it.
func TestPickleKey(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	munich := rig.NewBot(t, hs, "munich")
	in := listen(munich)
	rig.RunBot(t, munich)
	cfg := account.Config(t)
	first := newBot(t, cfg)
	stop := rig.RunBot(t, first)
	meet(t, first, munich)
	deliver(t, first, munich, in, "before")
	stop()
	path := filepath.Join(account.Dir, "pickle-key")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key := strings.TrimSpace(string(text))
	absent := func() {
		t.Helper()
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || len(key) < 26 {
			t.Errorf("the key's file: %v, %v", info, err)
		}
		files, _ := filepath.Glob(filepath.Join(account.Dir, "kiosk.db*"))
		if len(files) == 0 {
			t.Error("there is no database")
		}
		for _, file := range files {
			if data, err := os.ReadFile(file); err != nil || bytes.Contains(data, []byte(key)) {
				t.Errorf("%s has the key, %v", filepath.Base(file), err)
			}
		}
	}
	absent()

	// As the version before had it.
	if _, err := cfg.DB.Exec(t.Context(), "UPDATE ewindow_account SET pickle_key=$1", []byte(key)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"moved", "there"} {
		b := newBot(t, cfg)
		stop := rig.RunBot(t, b)
		if device(b) != device(first) {
			t.Errorf("device %s became %s", first.DeviceID(), b.DeviceID())
		}
		deliver(t, b, munich, in, text)
		stop()
		absent()
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := newBot(t, cfg).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "pickle-key is missing") {
		t.Errorf("without the file: %v", err)
	}
}

// TestPrune: keys of rooms that are older than a day are deleted, and Olm sessions that were not used for a month. What is younger stays.
func TestPrune(t *testing.T) {
	hs := rig.StartHomeserver(t)
	account := rig.NewBotAccount(t, hs, "dresden")
	cfg := account.Config(t)
	b, munich := newBot(t, cfg), rig.NewBot(t, hs, "munich")
	in, atMunich := listen(b), listen(munich)
	stop := rig.RunBot(t, b)
	rig.RunBot(t, munich)
	room := meet(t, b, munich)
	deliver(t, munich, b, in, "before")
	if _, err := munich.Send(t.Context(), room, testType, message{"old"}); err != nil {
		t.Fatal(err)
	}
	next(t, "the room's message", in.events, nil)
	count := func(query string) (n int) {
		t.Helper()
		if err := cfg.DB.QueryRow(t.Context(), query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	exec := func(query string) {
		t.Helper()
		if _, err := cfg.DB.Exec(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	const keys, sessions = "SELECT COUNT(*) FROM crypto_megolm_inbound_session", "SELECT COUNT(*) FROM crypto_olm_session"
	again := func(wantKeys, wantSessions int) {
		t.Helper()
		stop()
		b = newBot(t, cfg)
		in = listen(b)
		stop = rig.RunBot(t, b)
		if k, s := count(keys), count(sessions); k != wantKeys || s != wantSessions {
			t.Errorf("%d keys of rooms and %d Olm sessions instead of %d and %d", k, s, wantKeys, wantSessions)
		}
	}
	k, s := count(keys), count(sessions)
	if k == 0 || s == 0 {
		t.Fatal("there is nothing to delete: ", k, s)
	}
	exec("UPDATE crypto_megolm_inbound_session SET received_at=datetime('now', '-23 hours')")
	exec("UPDATE crypto_olm_session SET created_at=datetime('now', '-90 days'), last_encrypted=datetime('now', '-90 days'), last_decrypted=datetime('now', '-29 days')")
	again(k, s)
	exec("UPDATE crypto_megolm_inbound_session SET received_at=datetime('now', '-25 hours')")
	exec("UPDATE crypto_olm_session SET created_at=datetime('now', '-90 days'), last_encrypted=datetime('now', '-31 days'), last_decrypted=datetime('now', '-31 days')")
	again(0, 0)
	if n := count("SELECT COUNT(*) FROM crypto_message_index"); n != 0 {
		t.Errorf("%d messages are still noted", n)
	}
	// Both sides go on. Munich still uses the session and the key that we have deleted: the key is asked for.
	if _, err := munich.Send(t.Context(), room, testType, message{"with the old key"}); err != nil {
		t.Fatal(err)
	}
	insist(t, munich, b, in, "after")
	insist(t, b, munich, atMunich, "and back")
	rig.Eventually(t, 2*limit, func() error {
		select {
		case e := <-in.events:
			return rig.Check(textOf(e.Content.VeryRaw) == "with the old key", "the room's message", e.ID)
		case <-time.After(time.Second):
			// Each response of sync is a chance to ask for the key.
			_, err := munich.Client().SendText(t.Context(), room, "in the clear or not")
			return errors.Join(errNothingYet, err)
		}
	})
}
