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

// OpenHub opens the hub's database, making it and its folder when they are not there, and brings it up to date. The caller closes it.
// Its errors are sentences for the one who runs the hub. The file holds access tokens: it is readable for its owner alone.
func OpenHub(ctx context.Context, path string, log zerolog.Logger) (*dbutil.Database, error) {
	return hubKind.open(ctx, path, log)
}
