"""The demo: one command from a bare host to agents that did a real piece of work."""
