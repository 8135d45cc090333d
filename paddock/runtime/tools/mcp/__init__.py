"""The tools of MCP servers, for agents. Only what connects to a server needs the SDK."""
