"""`python -m openclaw_runtime.egress`: the egress proxy of a namespace."""

import asyncio
import logging
import os
import sys

from openclaw_runtime.egress.service import run
from openclaw_runtime.egress.settings import read_settings
from openclaw_runtime.environ import SettingsError
from openclaw_runtime.jsonlog import JsonFormatter
from openclaw_runtime.sandbox.keyfile import PublicKeysFile
from openclaw_runtime.sandbox.signing import SigningError


def main() -> int:
    """Runs until a signal. Returns 2 if a setting is wrong."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("websockets").setLevel(logging.WARNING)
    try:
        settings = read_settings(os.environ)
        keys = PublicKeysFile(settings.public_keys)
    except (SettingsError, SigningError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return asyncio.run(run(settings, keys))


if __name__ == "__main__":
    sys.exit(main())
