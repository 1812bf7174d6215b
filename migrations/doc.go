// Package migrations holds the SQL of ewindow's two databases and opens them: the kiosk's with [OpenKiosk], the hub's with [OpenHub].
//
// To add a table or a column, add the next numbered file in the folder kiosk or hub, and never edit a shipped one. Its first line states
// the versions and the purpose. The files are applied in the order of their numbers, each in one transaction together with its version
// number. A database with a newer schema than the program knows is refused.
//
// Each database is one SQLite file, and only one process at a time may use it: a lock file beside it is held from opening until Close.
// What was committed survives a power cut (synchronous=FULL).
//
// The tables of mautrix (crypto_..., mx_...) are in the kiosk's database, too, with version tables of their own. Package bot upgrades
// those.
//
// The returned databases may be used from any goroutine. The package starts none.
package migrations
