package homeserver_test

import (
	"bytes"
	"crypto/rand"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"maunium.net/go/mautrix"
	"maunium.net/go/mautrix/id"

	"multifactorymodel.org/ewindow/bot/homeserver"
	"multifactorymodel.org/ewindow/cmd/e2e/rig"
)

const fileSize = 64 << 10

func upload(t *testing.T, client *mautrix.Client, content []byte) id.ContentURI {
	t.Helper()
	answer, err := client.UploadBytes(t.Context(), content, "application/octet-stream")
	if err != nil {
		t.Fatal(err)
	}
	return answer.ContentURI
}

func random() []byte {
	content := make([]byte, fileSize)
	_, _ = rand.Read(content)
	return content
}

// stored is how many bytes of media a homeserver keeps on the disk.
func stored(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "media"), func(_ string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			info, err := entry.Info()
			if err != nil {
				return err
			}
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// TestRemoteMedia demands that users can let their homeserver fetch only so many files of others, and that it forgets these.
func TestRemoteMedia(t *testing.T) {
	cfg := &homeserver.RemoteMediaConfig{Total: 5*fileSize - 1, PerUser: 2*fileSize - 1, Age: time.Hour, Log: zerolog.Nop()}
	hs, other := rig.StartHomeserverWith(t, rig.Options{RemoteMedia: cfg}), rig.StartHomeserver(t)
	client := func(hs *rig.Homeserver, name string) *mautrix.Client {
		user, _ := hs.Register(t, name)
		return hs.Client(t, user)
	}
	anna, bert, carl, dora := client(hs, "anna"), client(hs, "bert"), client(hs, "carl"), client(hs, "dora")
	far := client(other, "far")
	var files []id.ContentURI
	for range 8 {
		files = append(files, upload(t, far, random()))
	}
	get := func(who *mautrix.Client, file id.ContentURI) int {
		t.Helper()
		status, _ := do(t, http.MethodGet, hs.URL+"/_matrix/client/v1/media/download/"+file.Homeserver+"/"+file.FileID, who.AccessToken, "")
		return status
	}
	for _, step := range []struct {
		what string
		who  *mautrix.Client
		file int
		want int
	}{
		{"the first file", anna, 0, 200}, {"the second", anna, 1, 200}, {"one more than a user may fetch", anna, 2, 429},
		{"a file that is there", anna, 0, 200}, {"another user", bert, 2, 200}, {"and again", bert, 3, 200}, {"the last that is kept", carl, 4, 200},
		{"one more than are kept", carl, 5, 429},
	} {
		if got := get(step.who, files[step.file]); got != step.want {
			t.Errorf("%s: %d, want %d", step.what, got, step.want)
		}
	}
	if status, _ := do(t, http.MethodGet, hs.URL+"/_matrix/client/v1/media/download/"+files[6].Homeserver+"/"+files[6].FileID, "", ""); status != 401 {
		t.Errorf("without a token: %d", status)
	}

	// One of the files is also a file of our own user, and stays.
	content, err := far.DownloadBytes(t.Context(), files[0])
	if err != nil {
		t.Fatal(err)
	}
	own := upload(t, anna, content)
	sweep := func(now time.Time) (deleted int) {
		rig.Eventually(t, soon, func() (err error) { // the front may still hold the last request's lock
			deleted, err = hs.Media.Sweep(t.Context(), now)
			return err
		})
		return deleted
	}
	if n := sweep(time.Now()); n != 0 {
		t.Errorf("%d new files were deleted", n)
	}
	if size := stored(t, cfg.Dir); size != 5*fileSize {
		t.Errorf("%d bytes are kept", size)
	}
	if n := sweep(time.Now().Add(2 * time.Hour)); n != 4 {
		t.Errorf("%d old files were deleted", n)
	}
	if size := stored(t, cfg.Dir); size != fileSize {
		t.Errorf("%d bytes are kept after old files were deleted", size)
	}
	if got, err := anna.DownloadBytes(t.Context(), own); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the own file has gone: %v", err)
	}
	if status := get(carl, files[0]); status != 200 {
		t.Errorf("a file that was forgotten: %d", status)
	}
	// A thumbnail makes the homeserver keep the whole file.
	for _, file := range files[6:] {
		_, _ = do(t, http.MethodGet, hs.URL+"/_matrix/client/v1/media/thumbnail/"+file.Homeserver+"/"+file.FileID+"?width=32&height=32", dora.AccessToken, "")
	}
	if status := get(dora, files[5]); status != 429 {
		t.Errorf("thumbnails cost nothing: %d", status)
	}
}
