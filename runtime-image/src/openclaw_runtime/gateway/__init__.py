"""The gateway: an agent's HTTP side, and the process around it."""
