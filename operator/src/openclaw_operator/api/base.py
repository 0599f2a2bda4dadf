"""Building blocks shared by the three kinds: the model base, string types with their patterns, references."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ : RFC 1123 labels and subdomains.
DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
QUANTITY = r"^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$"
# https://semver.org/#is-there-a-suggested-regular-expression-regex-to-check-a-semver-string
SEMVER = (
    r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$"
)
_PARTIAL = r"(\^|~|>=|<=|>|<|=)?v?([0-9]+|[xX*])(\.([0-9]+|[xX*])){0,2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"
_RANGE = rf"{_PARTIAL}( - {_PARTIAL}|( {_PARTIAL})*)"
# Ranges as node-semver reads them: https://github.com/npm/node-semver#ranges
SEMVER_RANGE = rf"^{_RANGE}( ?\|\| ?{_RANGE})*$"
CRON = r"^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[0-9*/,A-Za-z?-]+( [0-9*/,A-Za-z?-]+){4})$"
# Host name, IPv4 or bracketed IPv6 address, and a port up to 65535; no user name or password.
HOST_PORT = (
    r"(\[[0-9A-Fa-f:.]+\]|[^\s/:?#@\[\]$.][^\s/:?#@\[\]]*)"
    r"(:([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
)
HTTP_URL = rf"^https?://{HOST_PORT}([/?#][^\s]*)?$"

# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]
Name = Annotated[str, Field(pattern=DNS_SUBDOMAIN, min_length=1, max_length=253)]
DataKey = Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)]
Quantity = Annotated[
    str | int,
    WithJsonSchema(
        {"anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": QUANTITY, "x-kubernetes-int-or-string": True}
    ),
]
IntOrPercent = Annotated[
    str | int,
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": "^[0-9]+%?$",
            "x-kubernetes-int-or-string": True,
        }
    ),
]
FreeForm = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
SandboxLevel = Literal["isolated", "restricted", "trusted"]
DeletionPolicy = Literal["Retain", "Delete"]


class Model(BaseModel):
    """A part of a resource. Read from the camelCase JSON of the API server, unknown keys left to it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")


def cel(rule: str, message: str, field_path: str | None = None) -> dict[str, Any]:
    """One x-kubernetes-validations entry; `message` must say what to do, since the user sees nothing else."""
    entry: dict[str, Any] = {"rule": rule, "message": message}
    if field_path is not None:
        entry["fieldPath"] = field_path
    return entry


def schema_extra(*rules: dict[str, Any], **extra: Any) -> ConfigDict:
    """The model configuration that carries CEL rules (and other schema keywords) into the generated CRD."""
    keywords: dict[str, Any] = dict(extra)
    if rules:
        keywords["x-kubernetes-validations"] = list(rules)
    return ConfigDict(json_schema_extra=keywords)


def list_map(*keys: str) -> dict[str, Any]:
    """Schema keywords that make a list a map keyed by `keys`, so that two appliers can each own an entry."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


LIST_SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}
LIST_ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}


class LocalRef(Model):
    """Another object of the same namespace, by name."""

    name: Name = Field(description="Name of the object; it must be in the same namespace.")


class KeyRef(Model):
    """One key of a Secret or ConfigMap of the same namespace."""

    name: Name = Field(description="Name of the object; it must be in the same namespace.")
    key: DataKey = Field(description="Key under which the value is stored.")


class SecretSource(Model):
    """Where a secret value comes from."""

    secret_key_ref: KeyRef = Field(description="The key of a Secret that holds the value.")


class Resources(Model):
    """Compute resources of a container."""

    requests: dict[str, Quantity] = Field(
        default_factory=dict, description="What the scheduler reserves, for example {cpu: 250m, memory: 512Mi}."
    )
    limits: dict[str, Quantity] = Field(
        default_factory=dict, description="The most the container may use, for example {cpu: '1', memory: 2Gi}."
    )


class Toleration(Model):
    """Lets pods onto nodes with a matching taint."""

    key: str | None = Field(None, description="Taint key; empty with operator Exists matches every taint.")
    operator: Literal["Exists", "Equal"] | None = Field(None, description="How value is compared; default Equal.")
    value: str | None = Field(None, description="Taint value to compare with.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Taint effect to tolerate; empty tolerates all."
    )
    toleration_seconds: int | None = Field(
        None, ge=0, description="With NoExecute: seconds the pod stays after the taint appears."
    )


class Condition(Model):
    """A metav1.Condition: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/."""

    type: str = Field(max_length=316, description="What the condition is about, in CamelCase.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024, description="One word for the cause."
    )
    message: str = Field(max_length=32768, description="What is the case and, when it is a problem, how to fix it.")
    last_transition_time: str = Field(
        description="When status last changed.", json_schema_extra={"format": "date-time"}
    )
    observed_generation: int | None = Field(None, ge=0, description="Generation of the spec this was computed from.")


class CommonStatus(Model):
    """Status fields of every kind."""

    observed_generation: int | None = Field(None, ge=0, description="Generation of the spec this status describes.")
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="Current state; Ready is the last and sums the others up.",
        json_schema_extra=list_map("type"),
    )
