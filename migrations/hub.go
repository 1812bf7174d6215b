package migrations

import (
	"context"
	"embed"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
)

//go:embed hub/*.sql
var hubFiles embed.FS

var hubKind = kind{"hub", upgrades(hubFiles, "hub")}

// OpenHub opens the hub's database and applies new migrations. It makes the file and its folder if they do not exist. The caller closes
// it. Errors are sentences for the person who runs the hub. The file contains access tokens, so only its owner can read it.
func OpenHub(ctx context.Context, path string, log zerolog.Logger) (*dbutil.Database, error) {
	return hubKind.open(ctx, path, log)
}
