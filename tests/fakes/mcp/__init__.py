"""MCP servers to call in tests: real ones, on the official SDK, and broken ones."""
