"""What was decided, per call: kept for the gateway that asks, logged as JSON lines, counted for Prometheus."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

MAX_CALLS: Final = 4096
MAX_PER_CALL: Final = 100
"""How many decisions of a call are kept for its record. All are logged and counted."""
MAX_OPEN: Final = 16_384


@dataclass(slots=True)
class Decision:
    """One connection or request that was asked for. Times are Unix seconds and milliseconds, sizes bytes."""

    id: str
    time: float
    client: str
    method: str
    host: str
    port: int
    call_id: str = ""
    agent: str = ""
    skill: str = ""
    verdict: str = "denied"
    reason: str = ""
    address: str = ""
    sni: str = ""
    tls: bool = False
    status: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    duration_ms: int = 0

    def deny(self, reason: str) -> None:
        """Turns it into a no."""
        self.verdict, self.reason = "denied", reason

    def wire(self) -> dict[str, Any]:
        """Returns what a gateway keeps in the record of its call."""
        return {
            "time": self.time,
            "method": self.method,
            "host": self.host,
            "port": self.port,
            "address": self.address,
            "sni": self.sni,
            "verdict": self.verdict,
            "reason": self.reason,
            "bytesSent": self.bytes_sent,
            "bytesReceived": self.bytes_received,
            "durationMs": self.duration_ms,
        }

    def line(self) -> dict[str, Any]:
        """Returns what is logged."""
        who = {"callId": self.call_id, "agent": self.agent, "skill": self.skill, "client": self.client}
        return {**who, **self.wire(), "status": self.status}


@dataclass(slots=True)
class _Call:
    decisions: list[Decision] = field(default_factory=list)
    more: int = 0


class Journal:
    """Keeps the last calls. `write` takes each decision once, when its connection is over."""

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self._write = write
        self._calls: OrderedDict[str, _Call] = OrderedDict()
        self._open: OrderedDict[str, Decision] = OrderedDict()
        self._requests: dict[tuple[str, str], int] = {}
        self._bytes = {"sent": 0, "received": 0}

    def begin(self, decision: Decision) -> None:
        """Takes a decision that was just made; bytes and duration come with `end`."""
        self._open[decision.id] = decision
        if len(self._open) > MAX_OPEN:
            self.end(next(iter(self._open)))
        if not decision.call_id:
            return
        call = self._calls.setdefault(decision.call_id, _Call())
        self._calls.move_to_end(decision.call_id)
        if len(call.decisions) < MAX_PER_CALL:
            call.decisions.append(decision)
        else:
            call.more += 1
        while len(self._calls) > MAX_CALLS:
            self._calls.popitem(last=False)

    def open(self, identity: str) -> Decision | None:
        """Returns a decision whose connection is not over."""
        return self._open.get(identity)

    def end(self, identity: str) -> None:
        """Logs and counts a decision: nothing of it changes any more."""
        decision = self._open.pop(identity, None)
        if decision is None:
            return
        key = (decision.verdict, decision.reason)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._bytes["sent"] += decision.bytes_sent
        self._bytes["received"] += decision.bytes_received
        self._write(decision.line())

    def of_call(self, call_id: str) -> dict[str, Any]:
        """Returns what is known of a call: its first decisions, and how many more there were."""
        call = self._calls.get(call_id) or _Call()
        return {"decisions": [item.wire() for item in call.decisions], "more": call.more}

    def settled(self, call_id: str) -> bool:
        """Whether every kept connection of a call is over: bytes and durations are known."""
        call = self._calls.get(call_id)
        return call is None or not any(item.id in self._open for item in call.decisions)

    def metrics(self) -> str:
        """Returns the counters in Prometheus' text format."""
        lines = [
            "# HELP openclaw_egress_requests_total Connections and requests of skills, by verdict and reason.",
            "# TYPE openclaw_egress_requests_total counter",
            *(
                f'openclaw_egress_requests_total{{verdict="{verdict}",reason="{reason}"}} {count}'
                for (verdict, reason), count in sorted(self._requests.items())
            ),
            "# HELP openclaw_egress_bytes_total Bytes that skills sent and received.",
            "# TYPE openclaw_egress_bytes_total counter",
            *(f'openclaw_egress_bytes_total{{direction="{name}"}} {count}' for name, count in self._bytes.items()),
            "# HELP openclaw_egress_open_connections Connections of skills that are open.",
            "# TYPE openclaw_egress_open_connections gauge",
            f"openclaw_egress_open_connections {len(self._open)}",
        ]
        return "\n".join(lines) + "\n"
