"""The only package that talks to the Kubernetes API: requests, watches and what is remembered of them."""
