"""Watches Pods, Namespaces and NetworkPolicies and keeps the node's nftables in step with them. Test equipment.

A new pod is covered before its first process runs: the network plugin (netpol_cni.py) tells this program the pod's
address and waits for the answer, which is given once rules with that address are in force.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import ssl
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.cluster.netpol import Objects, isolations, render

RESOURCES = {
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
}
RETRY_SECONDS = 0.5
POD_SEEN_SECONDS = 10.0
LINE_LIMIT = 16 * 1024 * 1024


@dataclass
class Store:
    """The watched objects by uid, and the addresses the network plugin reported."""

    objects: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {name: {} for name in RESOURCES})
    listed: set[str] = field(default_factory=set)
    addresses: dict[str, str] = field(default_factory=dict)
    version: int = 0

    def replace(self, kind: str, items: list[dict[str, Any]]) -> None:
        self.objects[kind] = {item["metadata"]["uid"]: item for item in items}
        self.listed.add(kind)
        self.version += 1

    def apply(self, kind: str, event: Mapping[str, Any]) -> None:
        item = event["object"]
        uid = item["metadata"]["uid"]
        if event["type"] == "DELETED":
            self.objects[kind].pop(uid, None)
            if kind == "pods":
                self.addresses.pop(uid, None)
        else:
            self.objects[kind][uid] = item
        self.version += 1

    def rules(self) -> str:
        kinds = {name: list(items.values()) for name, items in self.objects.items()}
        return render(isolations(Objects(**kinds), self.addresses))


class Agent:
    """Three watches feed the store; one task writes the rules; one socket answers the network plugin."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self.session = session
        self.server = server
        self.store = Store()
        self.programmed = 0
        self.changed = asyncio.Condition()

    async def notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def watch(self, kind: str) -> None:
        while True:
            try:
                await self._watch_once(kind)
            except (aiohttp.ClientError, OSError, ValueError, KeyError) as error:
                log(f"watch of {kind} ended: {error!r}")
                await asyncio.sleep(RETRY_SECONDS)

    async def _watch_once(self, kind: str) -> None:
        url = f"{self.server}{RESOURCES[kind]}"
        async with self.session.get(url) as response:
            response.raise_for_status()
            listing = await response.json()
        self.store.replace(kind, listing.get("items") or [])
        await self.notify()
        parameters = {"watch": "1", "resourceVersion": listing["metadata"]["resourceVersion"]}
        async with self.session.get(url, params=parameters) as response:
            response.raise_for_status()
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self.store.apply(kind, event)
                await self.notify()

    async def program(self) -> None:
        """Write the rules whenever they differ from the last written. Nothing is written before everything is known."""
        written = ""
        while True:
            async with self.changed:
                await self.changed.wait_for(
                    lambda: self.store.listed == set(RESOURCES) and self.programmed < self.store.version
                )
            version = self.store.version
            rules = self.store.rules()
            if rules != written:
                await nft(rules)
                written = rules
            self.programmed = version
            await self.notify()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request per connection: {"uid", "address"}; the reply is {} when the pod is covered, else {"error"}."""
        with suppress(ConnectionError):
            request = json.loads(await reader.readline())
            reply = await self._cover(request["uid"], request["address"])
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _cover(self, uid: str, address: str) -> dict[str, str]:
        try:
            async with asyncio.timeout(POD_SEEN_SECONDS):
                async with self.changed:
                    await self.changed.wait_for(lambda: uid in self.store.objects["pods"])
                self.store.addresses[uid] = address
                self.store.version += 1
                wanted = self.store.version
                await self.notify()
                async with self.changed:
                    await self.changed.wait_for(lambda: self.programmed >= wanted)
        except TimeoutError:
            return {"error": f"pod {uid} was not covered after {POD_SEEN_SECONDS:.0f} s"}
        return {}


def log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


async def nft(rules: str) -> None:
    """Raises RuntimeError with nft's message: the supervisor then starts this program anew."""
    process = await asyncio.create_subprocess_exec(
        "nft", "-f", "-", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate(rules.encode())
    if process.returncode != 0:
        raise RuntimeError(f"nft: {errors.decode()}\n{rules}")


def read_kubeconfig(path: Path) -> tuple[str, ssl.SSLContext]:
    """Server address and TLS context of a file that kubeconfig.py wrote."""
    content = yaml.safe_load(path.read_text())
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile() as pair:
        for key in ("client-certificate-data", "client-key-data"):
            pair.write(base64.b64decode(user[key]))
        pair.flush()
        context.load_cert_chain(pair.name)
    return cluster["server"], context


async def serve(kubeconfig: Path, socket: Path) -> None:
    server, context = read_kubeconfig(kubeconfig)
    connector = aiohttp.TCPConnector(ssl=context)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=LINE_LIMIT) as session:
        agent = Agent(session, server)
        async with asyncio.TaskGroup() as tasks:
            for kind in RESOURCES:
                tasks.create_task(agent.watch(kind))
            tasks.create_task(agent.program())
            await asyncio.start_unix_server(agent.answer, socket)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.socket.unlink(missing_ok=True)
    asyncio.run(serve(arguments.kubeconfig, arguments.socket))


if __name__ == "__main__":
    main()
