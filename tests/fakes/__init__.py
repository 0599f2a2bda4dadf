"""Stand-ins that the tests use."""
