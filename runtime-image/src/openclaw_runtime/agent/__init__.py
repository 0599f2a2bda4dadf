"""The agent: what it knows before a turn, the loop of a turn, and what it keeps afterwards."""
