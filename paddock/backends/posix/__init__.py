"""What a backend gets that can only run commands: files and searches, by a POSIX shell inside."""
