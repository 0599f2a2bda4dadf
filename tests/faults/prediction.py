"""What the operator would still change, by its own preview: nothing, where what is asked is what is there."""

from __future__ import annotations

from openclaw_operator.cli.fields import differences
from openclaw_operator.cli.preview import KINDS, preview
from openclaw_operator.cluster.connection import Connection
from openclaw_operator.cluster.dryrun import Change, DryRunClient
from openclaw_operator.settings import load_settings
from openclaw_operator.telemetry import Metrics
from tests.bench.api import Api, resource_path
from tests.cluster import pki
from tests.cluster.apiserver import ApiServer
from tests.faults import world


async def outstanding(server: ApiServer, api: Api, namespace: str) -> list[str]:
    """One line for each change that applying the stored specs would make to a child: what `openclaw k8s diff` says.

    The preview reads everything anew and knows nothing of what the operator remembers.
    """
    documents = [
        {
            "apiVersion": world.GROUP,
            "kind": kind,
            "metadata": {"name": item["metadata"]["name"], "namespace": namespace},
            "spec": item["spec"],
        }
        for kind in KINDS
        for item in await api.items(resource_path(world.GROUP, world.PRIMARIES[kind], namespace))
    ]
    async with DryRunClient(_connection(server), Metrics()) as client:
        result = await preview(client, load_settings({}), documents)
    refused = [f"{each.kind}/{each.name} is stored and refused: {each.refused}" for each in result.previews]
    return [
        *(line for line, each in zip(refused, result.previews, strict=True) if each.refused),
        *(line for each in result.previews for change in each.children for line in _lines(change)),
    ]


def _lines(change: Change) -> list[str]:
    what = f"{change.kind}/{change.name}"
    if change.before is None:
        return [f"would be created: {what}"]
    if change.after is None:
        return [f"would be deleted: {what}"]
    fields = differences(change.kind, change.before, change.after)
    return [f"would be changed: {what} {field}" for field in fields] or [f"would be applied again: {what}"]


def _connection(server: ApiServer) -> Connection:
    async def no_token() -> str | None:
        return None

    return Connection(
        server=server.url,
        token=no_token,
        ca_path=str(server.pki / "ca.crt"),
        certificate_path=str(server.pki / f"{pki.ADMIN}.crt"),
        key_path=str(server.pki / f"{pki.ADMIN}.key"),
    )
