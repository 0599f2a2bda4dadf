"""Who the gateway is to the API server: ServiceAccount, Role and RoleBinding; and its token Secret."""

from __future__ import annotations

from openclaw_operator.api.agent import AgentSpec
from openclaw_operator.api.base import KeyRef
from openclaw_operator.resources.inputs import AgentInputs
from openclaw_operator.resources.meta import Object, Owner, child, labels

TOKEN_KEY = "token"  # noqa: S105 - the name of it


def service_account(inputs: AgentInputs) -> Object:
    """The account of the gateway pods."""
    spec = inputs.spec
    body: Object = {"automountServiceAccountToken": False}
    if spec.gateway.image_pull_secrets:
        body["imagePullSecrets"] = [{"name": secret.name} for secret in spec.gateway.image_pull_secrets]
    return child(
        "v1", "ServiceAccount", inputs.gateway, inputs.owner, labels(inputs.owner, "gateway", "identity"), **body
    )


def role(inputs: AgentInputs) -> Object:
    """Watch sandbox pods, read the packages of its own skills; nothing else."""
    rules: list[Object] = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    packages = sorted({skill.package for skill in inputs.skills if skill.package})
    if packages:
        rules.append({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": packages, "verbs": ["get"]})
    return child(
        "rbac.authorization.k8s.io/v1",
        "Role",
        inputs.gateway,
        inputs.owner,
        labels(inputs.owner, "gateway", "identity"),
        rules=rules,
    )


def role_binding(inputs: AgentInputs) -> Object:
    """Gives the Role to the account."""
    return child(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        inputs.gateway,
        inputs.owner,
        labels(inputs.owner, "gateway", "identity"),
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": inputs.gateway},
        subjects=[{"kind": "ServiceAccount", "name": inputs.gateway, "namespace": inputs.owner.namespace}],
    )


def token_secret_name(owner: Owner) -> str:
    """Name of the Secret with the bearer token that the operator makes."""
    return owner.child("gateway-token")


def token_ref(owner: Owner, spec: AgentSpec) -> KeyRef:
    """Where the bearer token of the gateway is: in a Secret of the user's, or in that of the operator's."""
    auth = spec.gateway.auth
    return auth.token_secret_ref if auth else KeyRef(name=token_secret_name(owner), key=TOKEN_KEY)
