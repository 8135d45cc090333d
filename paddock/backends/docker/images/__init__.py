"""Images on an engine: found, pulled, built, imported and removed."""
