"""Test equipment: the part of Qdrant's HTTP API that qdrant-client uses, on Qdrant's own embedded engine.

It exists because tests must run where no Qdrant server can be had. It is not Qdrant, it is never shipped, and no
product code knows of it: what talks to it talks through qdrant-client only. What it does not speak it refuses by name.
API: https://api.qdrant.tech/api-reference
"""
