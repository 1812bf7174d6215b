-- v0 -> v1: The Matrix account of the window
CREATE TABLE ewindow_account (
	one          INTEGER PRIMARY KEY CHECK (one = 1), -- there is one account
	homeserver   TEXT NOT NULL,                       -- URL that access_token was got from
	user_id      TEXT NOT NULL,
	device_id    TEXT NOT NULL,
	access_token TEXT NOT NULL,
	pickle_key   BLOB NOT NULL,                       -- what the crypto tables are encrypted with
	next_batch   TEXT NOT NULL DEFAULT '',            -- the sync response up to here was processed
	run_id       TEXT NOT NULL DEFAULT '',            -- what the account data must say, else this is a copy
	run_pending  TEXT NOT NULL DEFAULT ''             -- run_id that is being written to the account data
);
