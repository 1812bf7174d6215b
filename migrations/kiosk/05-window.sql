-- v4 -> v5 (compatible with v1+): The accounts that are windows of the network, or were
CREATE TABLE ewindow_window (
	user_id TEXT NOT NULL,    -- our own account
	kiosk   TEXT NOT NULL,    -- the window's account; our own, if we were a window or an admin took us down
	room    TEXT NOT NULL,    -- its room
	state   INTEGER NOT NULL, -- see the type standing in bot/network: a window, left, taken down, expelled
	PRIMARY KEY (user_id, kiosk)
) STRICT;
