package focus

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestHashVectors(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "e2ee", "testdata", "e2ee-vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	type vector struct {
		Input  []string `json:"input"`
		Output string   `json:"output"`
	}
	var file struct {
		Hashes struct {
			Rooms      []vector `json:"livekit_room_name"`
			Identities []vector `json:"livekit_identity_hashed"`
		} `json:"hash_vectors"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Hashes.Rooms) < 2 || len(file.Hashes.Identities) < 3 {
		t.Fatal("vectors are missing")
	}
	for _, v := range file.Hashes.Rooms {
		if got := roomName(v.Input[0], v.Input[1]); got != v.Output {
			t.Errorf("the room of %q is %s, want %s", v.Input, got, v.Output)
		}
	}
	for _, v := range file.Hashes.Identities {
		if got := hashedIdentity(v.Input[0], v.Input[1], v.Input[2]); got != v.Output {
			t.Errorf("the identity of %q is %s, want %s", v.Input, got, v.Output)
		}
	}
}
