CREATE TABLE ewindow_version (version INTEGER, compat INTEGER);
INSERT INTO ewindow_version VALUES (1, 1);
CREATE TABLE database_owner (
	key   INTEGER PRIMARY KEY DEFAULT 0,
	owner TEXT NOT NULL
);
INSERT INTO database_owner VALUES (0, 'ewindow kiosk');
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
INSERT INTO ewindow_account (one, homeserver, user_id, device_id, access_token, pickle_key, next_batch)
	VALUES (1, 'https://matrix.example.org', '@window:example.org', 'EWAAAAAAAA', 'token', 'pickle', 's1');
