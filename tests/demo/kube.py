"""kubectl as a Python object: the demo and the e2e tests do only what a user could do."""

from __future__ import annotations

import base64
import json
import re
import selectors
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.demo.errors import DemoError

COMMAND_SECONDS = 120.0
FORWARD_SECONDS = 20.0


@dataclass(frozen=True)
class Kube:
    """One cluster, one namespace."""

    program: Path
    kubeconfig: Path
    namespace: str

    def in_namespace(self, namespace: str) -> Kube:
        return Kube(self.program, self.kubeconfig, namespace)

    @property
    def command(self) -> list[str]:
        return [str(self.program), f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}"]

    def try_run(
        self, *arguments: str, stdin: str | None = None, seconds: float = COMMAND_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """The finished process, whatever its exit code. Raises DemoError when it takes longer than `seconds`."""
        command = [*self.command, *arguments]
        try:
            return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise DemoError(f"kubectl {' '.join(arguments)} took longer than {seconds:.0f} s") from None

    def run(self, *arguments: str, stdin: str | None = None, seconds: float = COMMAND_SECONDS) -> str:
        """Standard output. Raises DemoError with what kubectl said."""
        result = self.try_run(*arguments, stdin=stdin, seconds=seconds)
        if result.returncode:
            said = result.stderr.strip().splitlines() or ["(nothing said)"]
            raise DemoError(f"kubectl {' '.join(arguments)}: {said[-1]}", result.stderr)
        return result.stdout

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object, or None when there is none."""
        text = self.run("get", kind, name, "--ignore-not-found", "-o", "json")
        found: dict[str, Any] | None = json.loads(text) if text.strip() else None
        return found

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        arguments = ["get", kind, "-o", "json", *(["--selector", selector] if selector else [])]
        items: list[dict[str, Any]] = json.loads(self.run(*arguments))["items"]
        return items

    def apply(self, *objects: dict[str, Any]) -> None:
        """Server-side apply."""
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=content)

    def delete(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> None:
        self.run("delete", "--ignore-not-found", f"--timeout={seconds:.0f}s", *arguments, seconds=seconds + 5)

    def delete_wait(self, kind: str, name: str, seconds: float = 60.0) -> None:
        """Until an object that is being deleted is gone. Raises DemoError when it stays."""
        self.wait("delete", f"{kind}/{name}", seconds=seconds)

    def wait(self, condition: str, *objects: str, seconds: float) -> None:
        """Watch until every object meets the condition. Raises DemoError."""
        self.run("wait", f"--for={condition}", f"--timeout={seconds:.0f}s", *objects, seconds=seconds + 5)

    def secret(self, name: str, key: str) -> str:
        """A decoded value. Raises DemoError when the Secret or the key is missing."""
        found = self.get("secret", name)
        if found is None or key not in found.get("data", {}):
            raise DemoError(f"secret {self.namespace}/{name} has no key {key}")
        return base64.b64decode(found["data"][key]).decode()

    def exec(self, pod: str, *command: str, stdin: str | None = None) -> str:
        return self.run("exec", *(["--stdin"] if stdin is not None else []), pod, "--", *command, stdin=stdin)

    def wait_all_ready(self, objects: list[str], seconds: float) -> Iterator[tuple[str, float]]:
        """Yields each object and the seconds it took, in the order in which they become Ready.

        Raises DemoError with the Ready condition's message of the first that does not.
        """
        started = time.monotonic()
        command = [*self.command, "wait", "--for=condition=Ready", f"--timeout={seconds:.0f}s"]
        pending = {
            name: subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for name in objects
        }
        try:
            with selectors.DefaultSelector() as selector:
                for name, process in pending.items():
                    assert process.stdout is not None
                    selector.register(process.stdout, selectors.EVENT_READ, name)
                while selector.get_map():
                    for key, _ in selector.select():
                        selector.unregister(key.fileobj)
                        _, errors = pending[key.data].communicate()
                        if pending[key.data].returncode:
                            raise DemoError(f"{key.data} is not Ready: {self.why_not_ready(key.data)}", errors)
                        yield key.data, time.monotonic() - started
        finally:
            for process in pending.values():
                if process.poll() is None:
                    process.kill()
                process.communicate()

    def why_not_ready(self, name: str) -> str:
        """Reason and message of the Ready condition of `kind/name`."""
        kind, _, plain = name.partition("/")
        found = self.get(kind, plain)
        conditions = (found or {}).get("status", {}).get("conditions", [])
        ready = next((item for item in conditions if item["type"] == "Ready"), None)
        if ready is None:
            return "no condition was reported; is the operator running?"
        return f"{ready.get('reason', '')}: {ready.get('message', '')}"

    @contextmanager
    def forward(self, target: str, port: int) -> Iterator[str]:
        """The address of a loopback port that leads to `port` of `target`, while the context lasts."""
        command = [*self.command, "port-forward", "--address=127.0.0.1", target, f":{port}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            yield f"http://127.0.0.1:{_forwarded_port(process, target)}"
        finally:
            process.terminate()
            process.communicate()


def _forwarded_port(process: subprocess.Popen[str], target: str) -> int:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(FORWARD_SECONDS) else ""
    found = re.search(r"127\.0\.0\.1:(\d+)", line)
    if found is None:
        process.kill()
        _, errors = process.communicate()
        raise DemoError(f"port-forward to {target} did not start: {errors.strip() or 'no answer'}", errors)
    return int(found.group(1))
