-- v1 -> v2 (compatible with v1+): Delayed leaves of calls, which the next run cancels (MSC4140)
CREATE TABLE ewindow_delayed_leave (
	delay_id TEXT PRIMARY KEY NOT NULL, -- secret: it is all that is needed to send or cancel the leave
	room_id  TEXT NOT NULL
) STRICT;
