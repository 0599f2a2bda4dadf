"""The workspace claim: what of a claim cannot be changed stays as it is, and the Agent says so. Pure."""

from __future__ import annotations

from typing import Any

from openclaw_operator.api.agent import Workspace
from openclaw_operator.cluster.live import Live
from openclaw_operator.errors import SpecError


def settle(wanted: Workspace, live: Live | None) -> tuple[Workspace, SpecError | None]:
    """What can be asked of a claim that is there, and which wish it cannot meet.

    Storage class and access mode are fixed once a claim is bound:
    https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/persistent-volume-claim-v1/.
    Asking for others would be refused for ever, and so would be to give up a class that was asked for before.
    """
    if live is None:
        return wanted, None
    facts = live.facts
    kept: dict[str, Any] = {}
    unmet: list[str] = []
    has, wish = facts["class"], wanted.storage_class_name
    if wish != has and (has is not None or facts["bound"]):
        if wish is not None:
            unmet.append(f"spec.workspace.storageClassName: {wish!r}, but the claim has {has!r}")
        if wish is not None or facts["class_applied"]:
            kept["storage_class_name"] = has
    if facts["modes"] and facts["modes"] != [wanted.access_mode]:
        unmet.append(f"spec.workspace.accessMode: {wanted.access_mode!r}, but the claim has {facts['modes'][0]!r}")
        kept["access_mode"] = facts["modes"][0]
    problem = SpecError(
        "NewClaimNeeded",
        f"{'; '.join(unmet)}: a claim cannot be changed, so it is used as it is. Set the field back, or save the data "
        f"and delete PersistentVolumeClaim {live.name}; a new one is then made",
    )
    return wanted.model_copy(update=kept), problem if unmet else None
