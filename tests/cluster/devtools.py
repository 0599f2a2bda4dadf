"""Single programs the tests need beside a cluster, built at their first use from the Go modules in tools/."""

from __future__ import annotations

import os
from pathlib import Path

from tests.cluster import gotools
from tests.cluster.paths import cache_from

# promtool links every service discovery client otherwise: three times the build, and one of them is not always served.
BUILD_FLAGS = {"promtool": "-tags=remove_all_sd"}
# Downloading and building from nothing, on a small machine: for `pytest.mark.timeout` of the tests that may trigger it.
BUILD_TIMEOUT_SECONDS = 1500


def build(name: str) -> Path:
    """Returns the program of tools/<name>, built now if it is not in the cache. Raises `ClusterError`."""
    cache = cache_from(os.environ)
    flags = f"{os.environ.get('GOFLAGS', '')} {BUILD_FLAGS.get(name, '')}".strip()
    module = gotools.module(name)
    log = cache.root / "logs" / f"build-{name}.log"
    return gotools.build(module, cache, {**os.environ, "GOFLAGS": flags}, log) / name
