"""Packages from registries and web servers: the only part that talks to what is not the API server."""
