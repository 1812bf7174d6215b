-- v0 -> v1: Delayed events (MSC4140)
CREATE TABLE delayed_event (
	delay_id     TEXT    PRIMARY KEY NOT NULL,
	user_id      TEXT    NOT NULL,
	device_id    TEXT    NOT NULL,
	access_token TEXT    NOT NULL, -- secret: what the event is sent with
	room_id      TEXT    NOT NULL,
	event_type   TEXT    NOT NULL,
	state_key    TEXT,             -- NULL: no state event
	txn_id       TEXT    NOT NULL, -- the client's; '' for state events
	query        TEXT    NOT NULL, -- further parameters of the request
	content      BLOB    NOT NULL, -- JSON object
	delay        INTEGER NOT NULL, -- ms
	since        INTEGER NOT NULL  -- ms since 1970; the event is due at since + delay
) STRICT;

CREATE INDEX delayed_event_user ON delayed_event (user_id);
