"""Sessions: one agent, one conversation, one sandbox, any number of runs."""
