"""Pure builders of child objects: models in, dictionaries out. No clock, no client, no randomness."""
