"""A real one-node Kubernetes for tests and the demo: kind where a container engine answers, else on the bare host.

Everything in this package is test equipment. Nothing in it is shipped, and no product code imports it.
"""
