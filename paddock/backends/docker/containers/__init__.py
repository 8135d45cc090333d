"""Sandboxes' containers: planned, created, joined, controlled, kept as images and removed."""
