"""A stand-in for a language model: an OpenAI-compatible server whose answers follow a short table of rules."""
