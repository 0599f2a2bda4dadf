"""Sandboxes: the protocol both ends speak, the runner inside the pod, the pool and the client on the gateway's side."""
