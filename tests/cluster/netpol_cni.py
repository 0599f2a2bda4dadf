"""CNI plugin (https://www.cni.dev/docs/spec/): lets a pod start only once its network policies are in force.

Standard library only, and no import of this package: it runs for every pod, so it must start fast.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0"]
TIMEOUT_SECONDS = 15.0


def pod_uid(arguments: str) -> str | None:
    """CNI_ARGS holds K8S_POD_UID for pods; anything else that asks for a network has none."""
    pairs = (part.partition("=") for part in arguments.split(";"))
    return next((value for key, _, value in pairs if key == "K8S_POD_UID"), None)


def pod_address(result: dict[str, Any]) -> str:
    return str(result["ips"][0]["address"]).partition("/")[0]


def cover(path: str, uid: str, address: str) -> None:
    """Ask the agent and wait. Raises OSError or RuntimeError: the runtime then fails the pod and tries again."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(path)
        connection.sendall(json.dumps({"uid": uid, "address": address}).encode() + b"\n")
        with connection.makefile() as replies:
            reply = json.loads(replies.readline() or '{"error": "the agent closed the connection"}')
    if "error" in reply:
        raise RuntimeError(reply["error"])


def main(command: str, arguments: str, configuration: dict[str, Any]) -> dict[str, Any] | None:
    """The object to print, or None. https://www.cni.dev/docs/spec/#cni-operations"""
    version = configuration.get("cniVersion", "0.4.0")
    if command == "VERSION":
        return {"cniVersion": version, "supportedVersions": VERSIONS}
    if command != "ADD":
        return None
    result: dict[str, Any] = configuration["prevResult"]
    uid = pod_uid(arguments)
    if uid is not None:
        cover(configuration["socket"], uid, pod_address(result))
    return {"cniVersion": version, **result}


if __name__ == "__main__":
    try:
        reply = main(os.environ["CNI_COMMAND"], os.environ.get("CNI_ARGS", ""), json.load(sys.stdin))
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        print(json.dumps({"cniVersion": "0.4.0", "code": 100, "msg": f"network policy: {error!r}"}))
        sys.exit(1)
    if reply is not None:
        print(json.dumps(reply))
