"""The key pair of a namespace."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from openclaw_operator.cluster.kinds import BY_NAME
from openclaw_operator.cluster.live import Live
from openclaw_operator.reconcile.signing import (
    GRANT_SECONDS,
    MOUNT_SECONDS,
    SigningKeys,
    ensure_signing_key,
    rotate_signing_key,
)
from openclaw_operator.resources import egress
from openclaw_operator.resources.sandbox import SIGNING_LABEL
from openclaw_operator.resources.secrets import (
    NEXT_PRIVATE_KEY,
    NEXT_PUBLIC_KEY,
    PRIVATE_KEY,
    PUBLIC_KEY,
    ROTATE,
    SIGNING_SECRET,
)
from tests.unit.operator.fake_api import NOW, Bench


async def test_agents_that_come_together_make_one_key_pair() -> None:
    bench = Bench()
    plain, asked = bench.api.create, 0

    async def slow(*args: Any, **options: Any) -> dict[str, Any]:
        nonlocal asked
        asked += 1
        # Everybody who would not wait asks as well before this is answered.
        await asyncio.sleep(0)
        return await plain(*args, **options)

    bench.api.create = slow  # type: ignore[method-assign]
    keys = await asyncio.gather(*(ensure_signing_key(bench.context, "demo") for _ in range(5)))
    assert len(set(keys)) == 1
    assert asked == 1
    assert bench.api.writes("Secret") == [("create", SIGNING_SECRET)]


# --- rotation ---------------------------------------------------------------------------------------------------------


class Rotating(Bench):
    """A namespace whose key is rotated. Each step is taken by an operator that has just started."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = NOW
        self.restart()

    def restart(self) -> None:
        self.context = replace(self.context, now=lambda: self.clock)

    async def step(self, *pods: Live, max_age: float | None = None) -> float | None:
        self.restart()
        return await rotate_signing_key(self.context, "demo", pods, max_age)

    async def keys(self) -> SigningKeys:
        return await ensure_signing_key(self.context, "demo")

    async def pod(self, name: str) -> Live:
        """A pod that trusts what pods of this moment trust."""
        label = (await self.keys()).label
        return self.child("Pod", name, metadata={"labels": {SIGNING_LABEL: label}}, status={})

    def ask(self, value: str) -> None:
        item = self.api.items["Secret", SIGNING_SECRET]
        self.child("Secret", SIGNING_SECRET, **{**item, "metadata": {"annotations": {ROTATE: value}}})

    def signs_with(self) -> str:
        seed = base64.b64decode(self.api.items["Secret", SIGNING_SECRET]["data"][PRIVATE_KEY])
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64.b64encode(public).decode()


async def test_a_rotation_goes_on_from_whatever_the_secret_says() -> None:
    world = Rotating()
    first = await world.keys()
    old = await world.pod("old")
    assert await world.step(old) is None
    world.ask("1")
    await world.step(old)
    both = await world.keys()
    assert both.signing == first.signing == world.signs_with()
    assert first.signing in both.trusted
    # While a pod waits that knows only the old key, gateways do not get the new one.
    new = await world.pod("new")
    await world.step(old, new)
    assert await world.keys() == both
    await world.step(new)
    switched = await world.keys()
    assert world.signs_with() == switched.signing != first.signing
    assert (switched.trusted, switched.label) == (both.trusted, both.label)
    world.clock += timedelta(seconds=MOUNT_SECONDS - 1)
    assert await world.step(new) == 1
    assert await world.keys() == switched
    world.clock += timedelta(seconds=1)
    await world.step(new)
    last = await world.keys()
    assert last == SigningKeys(switched.signing, past=(first.signing,))
    assert last.trusted == switched.signing
    # A call that began with the old key may still want to connect.
    assert last.grants == both.trusted
    world.clock += timedelta(seconds=GRANT_SECONDS - 1)
    assert await world.step(new) == 1
    world.clock += timedelta(seconds=1)
    await world.step(new)
    last = await world.keys()
    assert last == SigningKeys(switched.signing)
    assert set(world.api.items["Secret", SIGNING_SECRET]["data"]) == {PRIVATE_KEY, PUBLIC_KEY}
    # The wish was carried out once; the same value again is no new wish, another one is.
    assert await world.step(new) is None
    assert await world.keys() == last
    world.ask("2")
    await world.step(new)
    assert len((await world.keys()).others) == 1


async def test_gateways_get_the_next_key_once_egress_proxies_have_read_of_it() -> None:
    world = Rotating()
    first = await world.keys()
    world.child("Deployment", egress.NAME, spec={}, status={})

    def publish(keys: str) -> None:
        changed: dict[str, Any] = {"f:data": {"f:public.keys": {}}}
        entries = [
            {"manager": "openclaw-operator", "time": world.clock.isoformat(), "fieldsV1": changed},
            {
                "manager": "kubectl",
                "time": (world.clock + timedelta(days=1)).isoformat(),
                "fieldsV1": {"f:metadata": {}},
            },
        ]
        world.child("ConfigMap", egress.KEYS_NAME, metadata={"managedFields": entries}, data={"public.keys": keys})

    publish(first.grants)
    world.ask("1")
    await world.step()
    both = await world.keys()
    # Not written yet: the operator may have been stopped in between, for however long.
    world.clock += timedelta(days=1)
    assert await world.step() == MOUNT_SECONDS
    publish(both.grants)
    world.clock += timedelta(seconds=MOUNT_SECONDS - 1)
    assert await world.step() == 1
    assert world.signs_with() == first.signing
    world.clock += timedelta(seconds=1)
    await world.step()
    assert world.signs_with() != first.signing


async def test_keys_of_rotations_in_a_row_are_all_kept_for_grants() -> None:
    world = Rotating()
    signed = []
    for wish in ("1", "2"):
        signed.append((await world.keys()).signing)
        world.ask(wish)
        await world.step()
        await world.step()
        world.clock += timedelta(seconds=MOUNT_SECONDS)
        await world.step()
    assert (await world.keys()).past == tuple(signed)


async def test_an_old_key_is_rotated_where_an_age_is_set() -> None:
    world = Rotating()
    await world.keys()
    world.clock += timedelta(days=30)
    await world.step(max_age=31 * 86400)
    assert (await world.keys()).others == ()
    await world.step()
    assert (await world.keys()).others == ()
    await world.step(max_age=30 * 86400)
    assert len((await world.keys()).others) == 1


async def test_two_operators_that_take_the_same_step_take_it_once() -> None:
    world = Rotating()
    await world.keys()
    world.ask("1")
    plain = world.api.merge

    async def slower(*args: Any) -> dict[str, Any]:
        world.api.merge = plain  # type: ignore[method-assign]
        body = {"metadata": {}, "data": {NEXT_PRIVATE_KEY: "bmV4dA==", NEXT_PUBLIC_KEY: "bmV4dA=="}}
        await plain(BY_NAME["Secret"], "demo", SIGNING_SECRET, body, "rotate")
        return await plain(*args)

    world.api.merge = slower  # type: ignore[method-assign,assignment]
    await world.step()
    assert (await world.keys()).others == ("bmV4dA==",)
