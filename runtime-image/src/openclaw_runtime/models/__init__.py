"""Language models: which one an agent speaks with, and what happens when it does not answer."""
