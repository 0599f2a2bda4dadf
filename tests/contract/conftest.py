"""The real API server for tests that ask it whether what we write is valid."""

from __future__ import annotations

from tests.cluster.fixtures import api_server

__all__ = ["api_server"]
