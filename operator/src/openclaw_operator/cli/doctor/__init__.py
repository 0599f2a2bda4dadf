"""`openclaw-operator doctor`: what a cluster lacks for agents to run well, and what to do about it."""
