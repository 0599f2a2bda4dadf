"""`python -m openclaw_runtime.activator`: the activator of a namespace."""

import asyncio
import logging
import os
import sys

import uvloop

from openclaw_runtime.activator.service import on_signals, run
from openclaw_runtime.activator.settings import Settings, read_settings, read_sleepers
from openclaw_runtime.environ import SettingsError
from openclaw_runtime.follow import FollowedFile
from openclaw_runtime.jsonlog import JsonFormatter
from openclaw_runtime.sandbox.kube import KubeApi, KubeError


async def _run(settings: Settings) -> None:
    api = KubeApi.in_cluster(dict(os.environ))
    try:
        stop = asyncio.Event()
        on_signals(stop)
        await run(settings, FollowedFile(settings.agents_file, read_sleepers).get, api, stop)
    finally:
        await api.close()


def main() -> int:
    """Runs until a signal. Returns 2 if a setting is wrong."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("httpx", "httpcore", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        uvloop.run(_run(read_settings(os.environ)))
    except (SettingsError, KubeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
