"""Gather, decide, apply, report: one level-based reconcile per kind, driven by one queue."""
