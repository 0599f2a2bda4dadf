"""One case: which object is changed, and how."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from hypothesis import strategies as st

from tests.bench.api import Object
from tests.bench.setup import CRDS
from tests.faults.fuzz.schema import Schema, mutations, values

How = Literal["change", "replace", "toggle", "delete"]


@dataclass(frozen=True)
class Case:
    """What happens to one object. `spec` is None where the object is deleted."""

    how: How
    kind: str
    name: str
    spec: Mapping[str, Any] | None

    def __str__(self) -> str:
        what = yaml.safe_dump(self.spec, default_flow_style=True, width=10_000).strip() if self.spec else ""
        return f"{self.how} {self.kind}/{self.name} {what}"


def spec_schemas() -> dict[str, Schema]:
    """Kind → schema of its spec, from the generated CRDs."""
    schemas: dict[str, Schema] = {}
    for file in sorted(CRDS.glob("*.yaml")):
        crd = yaml.safe_load(file.read_text())
        version = crd["spec"]["versions"][0]
        schemas[crd["spec"]["names"]["kind"]] = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    # A volume claim without a class can be given one, and nothing can take it away again: the API server forbids it.
    del schemas["Agent"]["properties"]["workspace"]["properties"]["storageClassName"]
    return schemas


@st.composite
def cases(draw: st.DrawFn, resources: Sequence[Object], users: Sequence[Object], schemas: Mapping[str, Schema]) -> Case:
    """A change to one of the resources, or the loss of one of them or of a user's own object."""
    names = [item["metadata"]["name"] for item in (*resources, *users)]
    how = draw(st.sampled_from(["change"] * 14 + ["replace"] * 2 + ["toggle"] * 2 + ["delete"] * 2))
    if how == "delete":
        item = draw(st.sampled_from([*resources, *users]))
        return Case("delete", item["kind"], item["metadata"]["name"], None)
    item = draw(st.sampled_from(list(resources)))
    kind, name = item["kind"], item["metadata"]["name"]
    if how == "toggle":
        item = draw(st.sampled_from([each for each in resources if each["kind"] == "Agent"]))
        spec = {**item["spec"], "suspend": True}
        return Case("toggle", item["kind"], item["metadata"]["name"], spec)
    if how == "replace":
        return Case("replace", kind, name, draw(values(schemas[kind], names)))
    changed = copy.deepcopy(item["spec"])
    for _ in range(draw(st.integers(1, 3))):
        changed = draw(mutations(schemas[kind], changed, names))
    return Case("change", kind, name, changed)
