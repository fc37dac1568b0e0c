"""A conversation with the program as its users see it, and what it answered when recorded."""
