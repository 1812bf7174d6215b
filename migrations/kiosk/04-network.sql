-- v3 -> v4 (compatible with v1+): The network that an admin's invitation led to
CREATE TABLE ewindow_network (
	user_id TEXT PRIMARY KEY NOT NULL, -- our own account
	space   TEXT NOT NULL,             -- '': no invitation was accepted
	member  INTEGER NOT NULL           -- 1: we have been in it since; if we are not in it now, we were removed
) STRICT;
