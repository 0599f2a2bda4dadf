"""Who may have a leased sandbox, and which leases a gateway keeps: pure, with a clock of the test's own."""

import pytest

from openclaw_runtime.environ import SettingsError
from openclaw_runtime.sandbox.endpoint import Endpoint
from openclaw_runtime.sandbox.leases import Lease, Leases
from openclaw_runtime.sandbox.protocol import Holder
from openclaw_runtime.sandbox.runner.settings import read_settings
from openclaw_runtime.sandbox.runner.tenancy import Tenancy
from openclaw_runtime.skills.types import stricter

ONE, TWO = Holder("agent", "one", "skill"), Holder("agent", "two", "skill")


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lease(holder: Holder, name: str, pool: str = "pool") -> Lease:
    return Lease(pool, holder, Endpoint(name, name, ("127.0.0.1", 1)))


def test_an_isolated_sandbox_takes_one_call() -> None:
    tenancy = Tenancy(leased=False, idle_seconds=10, max_seconds=100, clock=Time())
    assert tenancy.claim(ONE)
    tenancy.running = False
    assert not tenancy.open
    assert not tenancy.claim(ONE)
    assert tenancy.remaining() == 0


def test_a_lease_is_for_its_first_caller() -> None:
    clock = Time()
    tenancy = Tenancy(leased=True, idle_seconds=10, max_seconds=15, clock=clock)
    clock.now += 1000  # waiting for somebody is not part of a lease
    assert tenancy.free
    assert tenancy.claim(ONE)
    assert not tenancy.claim(ONE)  # a call runs
    assert not tenancy.may_release(ONE)
    tenancy.running = False
    assert not tenancy.claim(TWO)
    assert not tenancy.may_release(TWO)
    assert tenancy.may_release(ONE)
    assert tenancy.remaining() == 10
    clock.now += 12
    assert tenancy.claim(ONE)
    assert tenancy.remaining() == 3


def test_a_gateway_uses_the_lease_it_used_last() -> None:
    leases = Leases(keep=5, clock=Time())
    for name in ("a", "b"):
        leases.put(lease(ONE, name), 10)
    leases.put(lease(ONE, "c", pool="other"), 10)
    taken = [leases.take("pool", ONE) for _ in range(3)]
    assert [found and found.endpoint.name for found in taken] == ["b", "a", None]
    assert leases.counts() == {"other": 1}


def test_a_gateway_gives_back_what_is_too_much_or_too_old() -> None:
    clock = Time()
    leases = Leases(keep=1, clock=clock)
    assert leases.put(lease(ONE, "a"), 10) is None
    surplus = leases.put(lease(TWO, "b"), 10)
    assert surplus is not None
    assert surplus.endpoint.name == "a"
    clock.now += 8.5  # its pod may be ending by the time a call arrives
    assert leases.take("pool", TWO) is None


def test_the_stricter_level_holds() -> None:
    assert stricter("trusted", "restricted") == stricter("restricted", "trusted") == "restricted"
    assert stricter("isolated", "trusted") == "isolated"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("OPENCLAW_SANDBOX_LEVEL", "trusted", "'trusted' is none of isolated, restricted"),
        ("OPENCLAW_SANDBOX_LEASE_IDLE_SECONDS", "0", "not a number from 1 to 86400"),
        ("OPENCLAW_SANDBOX_LEASE_MAX_SECONDS", "x", "not a number"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}.*{text}"):
        read_settings({"OPENCLAW_SANDBOX_PUBLIC_KEYS": "k", "POD_UID": "u", name: value})
