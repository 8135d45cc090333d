"""Many agents with roles, plans, references and approvals, on the one loop of the runtime."""
