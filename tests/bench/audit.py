"""Who asked the API server for what, from its audit log; the only witness that is neither operator nor benchmark.

Event fields: https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

WRITE_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True)
class Request:
    """One finished request. `received` and `finished` are seconds since the epoch."""

    verb: str
    resource: str
    name: str
    code: int
    received: float
    finished: float

    @property
    def is_write(self) -> bool:
        return self.verb in WRITE_VERBS

    @property
    def is_look(self) -> bool:
        return self.verb == "list" and self.resource == "pods"


def events_of(lines: Iterable[str], user: str) -> list[dict[str, Any]]:
    """The events of one user name."""
    events = (json.loads(line) for line in lines if line.strip())
    return [event for event in events if event["user"]["username"] == user]


def requests_of(events: Iterable[dict[str, Any]]) -> list[Request]:
    """The requests that events tell of. Watches count when they start, everything else when it is answered.

    A watch that begins with all there is counts as a list besides once it has ended.
    """
    return [_request(event) for event in events if _counts(event)]


def _counts(event: dict[str, Any]) -> bool:
    if event["verb"] != "watch":
        return bool(event["stage"] == "ResponseComplete")
    return event["stage"] == "ResponseStarted" or (_lists(event) and event["responseStatus"]["code"] < 400)


def _lists(event: dict[str, Any]) -> bool:
    return event["verb"] == "watch" and "sendInitialEvents=true" in event["requestURI"]


def _request(event: dict[str, Any]) -> Request:
    reference = event.get("objectRef", {})
    resource = reference.get("resource", event.get("requestURI", "").partition("?")[0])
    if reference.get("subresource"):
        resource += "/" + reference["subresource"]
    streamed = event["verb"] == "watch" and event["stage"] == "ResponseComplete"
    return Request(
        "list" if streamed else event["verb"],
        resource,
        reference.get("name", ""),
        event.get("responseStatus", {}).get("code", 0),
        seconds(event["requestReceivedTimestamp"]),
        seconds(event["stageTimestamp"]),
    )


def seconds(timestamp: str) -> float:
    """A timestamp of the log as seconds since the epoch."""
    return datetime.fromisoformat(timestamp).timestamp()


def by_verb_and_resource(requests: Iterable[Request]) -> dict[str, int]:
    """`{"patch configmaps": 3, …}`, most frequent first; refused requests are counted as `… (409)`."""
    counts = Counter(
        f"{request.verb} {request.resource}" + (f" ({request.code})" if request.code >= 400 else "")
        for request in requests
    )
    return dict(counts.most_common())


def writes(requests: Iterable[Request]) -> list[Request]:
    return [request for request in requests if request.is_write]


@dataclass
class AuditTail:
    """The requests of one user, read piece by piece from a growing audit log."""

    path: Path
    user: str
    requests: list[Request] = field(default_factory=list)
    # Lists that are being streamed, by their ids in the log.
    streams: set[str] = field(default_factory=set)
    _offset: int = 0

    def poll(self) -> int:
        """Read what is new; how many requests there are by now, watches and looks at pods left out.

        Without a kubelet no gateway gets ready, so a program that says why goes on looking at its pods, now and then.
        """
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        complete = data.rfind(b"\n") + 1
        self._offset += complete
        # Most lines are about others: parsing only those that hold the name takes a tenth of the time.
        mine = [line for line in data[:complete].split(b"\n") if self.user.encode() in line]
        events = events_of((line.decode() for line in mine), self.user)
        self.requests.extend(requests_of(events))
        for event in filter(_lists, events):
            (self.streams.add if event["stage"] == "ResponseStarted" else self.streams.discard)(event["auditID"])
        return sum(not (request.verb == "watch" or request.is_look) for request in self.requests)

    def take(self) -> list[Request]:
        """All requests since the last take."""
        self.poll()
        taken, self.requests = self.requests, []
        return taken
