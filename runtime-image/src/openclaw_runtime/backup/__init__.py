"""Backups of a MemoryStore: records, vectors and configuration, in an object store or a folder.

A backup is a folder `<namespace>/<store>/<name>/` of the destination. Its `manifest.json` is written last, so a folder
without one is no backup. PostgreSQL is dumped and restored by the server image's own tools, beside this program: their
version always fits. What is here moves the dump, takes and puts back Qdrant's snapshots, and keeps the books.
"""
