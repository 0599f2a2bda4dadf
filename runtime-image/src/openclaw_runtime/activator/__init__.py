"""The activator of a namespace: says which agents are idle, and holds requests for those that sleep until they wake."""
