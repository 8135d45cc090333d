"""Where the multi-agent runtime keeps plans, references, runs, approvals and histories."""
