"""Add up a column of a CSV file. Runs on the Python of a sandbox: standard library only."""
