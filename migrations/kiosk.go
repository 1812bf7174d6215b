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

// OpenKiosk opens the kiosk's database and applies new migrations. It makes the file and its folder if they do not exist. The caller closes
// it. Errors are sentences for the person who runs the kiosk. The file contains secrets, so only its owner can read it.
func OpenKiosk(ctx context.Context, path string, log zerolog.Logger) (*dbutil.Database, error) {
	return kioskKind.open(ctx, path, log)
}
