-- v4 -> v5 (compatible with v1+): The accounts that are windows of the network, or were
CREATE TABLE ewindow_window (
	user_id TEXT NOT NULL,    -- our own account
	kiosk   TEXT NOT NULL,    -- the window's account; our own, if an admin took us down
	room    TEXT NOT NULL,    -- its room
	state   INTEGER NOT NULL, -- 0: it is a window; 1: it left the network's Space or was removed; 2: an admin took its room out of the Space
	PRIMARY KEY (user_id, kiosk)
) STRICT;
