"""Runs the front, with the settings of Qdrant's own image (https://qdrant.tech/documentation/guides/configuration/)."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import uvicorn

from tests.cluster.qdrant_front.app import TITLE, create_app


def main() -> None:
    parser = argparse.ArgumentParser(description=TITLE)
    parser.add_argument("--host", default=os.environ.get("QDRANT__SERVICE__HOST", "0.0.0.0"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("QDRANT__SERVICE__HTTP_PORT", "6333")))
    storage = os.environ.get("QDRANT__STORAGE__STORAGE_PATH", "/qdrant/storage")
    parser.add_argument("--storage", type=Path, default=Path(storage))
    parser.add_argument("--snapshots", type=Path, default=os.environ.get("QDRANT__STORAGE__SNAPSHOTS_PATH"))
    chosen = parser.parse_args()
    # One volume holds both: a snapshot must survive the pod, and the root file system may be read-only.
    snapshots = Path(chosen.snapshots) if chosen.snapshots else chosen.storage / "snapshots"
    print(TITLE, flush=True)
    app = create_app(chosen.storage, snapshots, os.environ.get("QDRANT__SERVICE__API_KEY"))
    uvicorn.run(app, host=chosen.host, port=chosen.port, log_level="warning")


if __name__ == "__main__":
    main()
