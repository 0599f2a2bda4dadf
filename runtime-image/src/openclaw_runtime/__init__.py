"""The OpenClaw runtime: one agent, its gateway, memory, bus and skill sandbox."""
