"""Skills: packages, manifests, checks before a call and the audit record after it."""
