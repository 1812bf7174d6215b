-- v2 -> v3 (compatible with v1+): Sticky events, which sync tells once and which count for up to an hour (MSC4354)
CREATE TABLE ewindow_sticky (
	room_id  TEXT NOT NULL,
	event_id TEXT NOT NULL,
	sender   TEXT NOT NULL,
	expires  INTEGER NOT NULL, -- ms since 1970, by our own clock
	event    BLOB NOT NULL,    -- JSON, as it came: encrypted where it was
	PRIMARY KEY (room_id, event_id)
) STRICT;
