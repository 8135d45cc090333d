"""What agents know of data: the entries of a catalog, and a database that they read."""
