package migrations

import (
	"context"
	"embed"

	"github.com/rs/zerolog"
	"go.mau.fi/util/dbutil"
)

//go:embed kiosk/*.sql
var kioskFiles embed.FS

var kioskKind = kind{"kiosk", upgrades(kioskFiles, "kiosk")}

// OpenKiosk opens the kiosk's database, making it and its folder when they are not there, and brings it up to date. The caller closes it.
// Its errors are sentences for the one who runs the kiosk.
func OpenKiosk(ctx context.Context, path string, log zerolog.Logger) (*dbutil.Database, error) {
	return kioskKind.open(ctx, path, log)
}
