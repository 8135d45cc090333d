"""Runtimes that are made, started, prompted and closed by functions."""
