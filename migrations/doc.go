// Package migrations holds the SQL of ewindow's two databases and opens them: the kiosk's with [OpenKiosk], the hub's with [OpenHub].
//
// Each database is one SQLite file that one process at a time may use: a lock file beside it is held from opening until Close. What is
// committed outlasts a power cut (synchronous=FULL). The numbered files below kiosk and hub are applied in their order, each in one
// transaction with its version number; a shipped one is never edited. A schema that is newer than the program is refused.
//
// The tables of mautrix (crypto_..., mx_...) live in the kiosk's database too, with version tables of their own. The bot upgrades those.
package migrations
