"""MCP servers as skills: their tools become actions, found by asking the server."""
