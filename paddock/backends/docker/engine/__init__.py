"""The way to a Docker Engine: its address, calls, streams, and what it can do."""
