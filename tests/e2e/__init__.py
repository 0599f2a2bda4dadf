"""The whole system on a real kubelet."""
