"""A conversation as it is kept: its trace, its state, its directory."""
