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

How = Literal["change", "replace", "toggle", "delete", "sequence"]
Spec = Mapping[str, Any]
# Features that a user switches on and off again: kind, the field, what it becomes.
TOGGLES: tuple[tuple[str, tuple[str, ...], Any], ...] = (
    ("Agent", ("suspend",), True),
    ("Agent", ("gateway", "hibernation"), {}),
    ("Agent", ("gateway", "autoscaling"), {}),
    ("Agent", ("gateway", "replicas"), 0),
    ("MemoryStore", ("backup", "suspend"), True),
    ("MemoryStore", ("backup", "drill"), None),
    ("MemoryStore", ("backup",), None),
)


@dataclass(frozen=True)
class Case:
    """What happens to one object: one spec after the other, without waiting; None is its deletion."""

    how: How
    kind: str
    name: str
    steps: tuple[Spec | None, ...]

    def __str__(self) -> str:
        shown = [
            "-" if spec is None else yaml.safe_dump(spec, default_flow_style=True, width=10_000).strip()
            for spec in self.steps
        ]
        return f"{self.how} {self.kind}/{self.name} {' then '.join(shown)}"


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
    """A change to one of the resources, several in a row, or the loss of one of them or of a user's own object."""
    names = [item["metadata"]["name"] for item in (*resources, *users)]
    how = draw(st.sampled_from(["change"] * 12 + ["replace"] * 2 + ["toggle"] * 2 + ["delete"] * 2 + ["sequence"] * 4))
    if how == "delete":
        item = draw(st.sampled_from([*resources, *users]))
        return Case("delete", item["kind"], item["metadata"]["name"], (None,))
    if how == "toggle":
        kind, field, value = draw(st.sampled_from(TOGGLES))
        item = draw(st.sampled_from([each for each in resources if each["kind"] == kind]))
        return Case("toggle", kind, item["metadata"]["name"], (_with(item["spec"], field, value),))
    # A MemoryRestore cannot be changed.
    item = draw(st.sampled_from([each for each in resources if each["kind"] != "MemoryRestore"]))
    kind, name, spec = item["kind"], item["metadata"]["name"], item["spec"]
    if how == "replace":
        return Case("replace", kind, name, (draw(values(schemas[kind], names)),))
    changed = st.composite(_changed)(spec, schemas[kind], names)
    if how == "sequence":
        # Back and forth, gone and there again, and an end that may be anything.
        steps = draw(st.lists(changed | st.just(spec) | st.none(), min_size=2, max_size=4))
        return Case("sequence", kind, name, tuple(steps))
    return Case("change", kind, name, (draw(changed),))


def _changed(draw: st.DrawFn, spec: Spec, schema: Schema, names: Sequence[str]) -> Spec:
    changed = copy.deepcopy(spec)
    for _ in range(draw(st.integers(1, 3))):
        changed = draw(mutations(schema, changed, names))
    return changed


def _with(spec: Spec, field: tuple[str, ...], value: Any) -> Spec:
    """The spec with another value at a field, None for none."""
    first, *rest = field
    inner = _with(spec.get(first) or {}, tuple(rest), value) if rest else value
    return {**{name: each for name, each in spec.items() if name != first}, **({} if inner is None else {first: inner})}
