"""The chart: valid everywhere, nothing unused, and equal to what the operator says of itself."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from openclaw_operator import rbac
from openclaw_operator.cli.doctor.judge import OLDEST_MINOR
from openclaw_operator.resources import activator, agent_service, egress, network
from openclaw_operator.resources.egress import EgressOptions
from openclaw_operator.settings import PREFIX, Settings, load_settings
from tests.cluster.apiserver import ApiServer
from tests.cluster.paths import REPOSITORY
from tests.contract import jsonschemas
from tests.contract.helm import CHART, MONITORING, chart_file, documents, ok, one, program, run, template
from tests.unit.operator.builders import IMAGES, agent_inputs

VALUES: dict[str, Any] = yaml.safe_load(chart_file("values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads(chart_file("values.schema.json").read_text())

# Each value with another one that must change what is rendered. A new value without an entry fails the test below.
OTHERS: dict[str, Any] = {
    **{f"images.{name}.repository": "registry.example/x" for name in VALUES["images"]},
    **{f"images.{name}.tag": "v9" for name in VALUES["images"]},
    **{f"images.{name}.digest": f"sha256:{'0' * 64}" for name in VALUES["images"]},
    "imagePullPolicy": "Always",
    "imagePullSecrets": [{"name": "pull"}],
    "agents.imagePullSecrets": [{"name": "pull"}],
    "crds.install": False,
    "watchNamespaces": ["one", "two"],
    "agentSelector": "team=blue",
    "clusterDomain": "example.org",
    "workers": 9,
    "resyncSeconds": 61,
    "sandbox.trustedSkills": ["demo/git", "tools/*"],
    "activator.replicas": 2,
    "egress.enabled": False,
    "egress.replicas": 2,
    "egress.resources.requests.cpu": "26m",
    "egress.resources.requests.memory": "97Mi",
    "egress.resources.limits.cpu": "2",
    "egress.resources.limits.memory": "257Mi",
    "egress.deniedNetworks": ["10.0.0.0/16"],
    "egress.allowApiServer": True,
    "sources.allowedHosts": ["registry.example.com"],
    "sources.privateHosts": ["registry.tools.svc"],
    "sandbox.signingKeyMaxAgeDays": 30,
    "log.level": "debug",
    "log.format": "text",
    "serviceAccount.create": False,
    "serviceAccount.name": "other",
    "serviceAccount.annotations": {"a": "b"},
    "rbac.create": False,
    "rbac.aggregate": False,
    "resources.requests.cpu": "51m",
    "resources.requests.memory": "129Mi",
    "resources.limits.cpu": "2",
    "resources.limits.memory": "513Mi",
    "podAnnotations": {"a": "b"},
    "podLabels": {"a": "b"},
    "nodeSelector": {"a": "b"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-cluster-critical",
    "extraEnv": [{"name": "A", "value": "b"}],
    "networkPolicy.enabled": False,
    "networkPolicy.metricsFrom": [{"namespaceSelector": {}}],
    "metrics.namespaces": ["observability", "prometheus"],
    "metrics.serviceMonitor.enabled": False,
    "metrics.serviceMonitor.interval": "31s",
    "metrics.serviceMonitor.labels": {"a": "b"},
    "metrics.prometheusRule.enabled": False,
    "metrics.prometheusRule.labels": {"a": "b"},
    "metrics.prometheusRule.runbooks": "https://runbooks.example.org/openclaw",
    "metrics.dashboards.enabled": False,
    "metrics.dashboards.labels.grafana_dashboard": "2",
    "metrics.dashboards.annotations": {"a": "b"},
}


def with_value(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(values)
    *parents, last = path.split(".")
    node = changed
    for parent in parents:
        node = node[parent]
    node[last] = value
    return changed


def leaves(node: Any, path: str = "") -> set[str]:
    if not isinstance(node, dict) or not node:
        return {path}
    return {leaf for key, child in node.items() for leaf in leaves(child, f"{path}.{key}" if path else key)}


def everything_on() -> dict[str, Any]:
    """Values under which every other value has an effect."""
    values = with_value(VALUES, "metrics.serviceMonitor.enabled", True)
    values = with_value(values, "metrics.prometheusRule.enabled", True)
    values = with_value(values, "metrics.dashboards.enabled", True)
    return with_value(values, "serviceAccount.name", "someone")


def test_lint() -> None:
    ok(program("helm"), "lint", "--strict", "--kube-version", "1.34.4", str(CHART))


def test_chart_readme_and_doctor_agree_on_the_oldest_kubernetes() -> None:
    assert yaml.safe_load(chart_file("Chart.yaml").read_text())["kubeVersion"] == f">=1.{OLDEST_MINOR}.0-0"
    assert f"Kubernetes 1.{OLDEST_MINOR} or newer" in (REPOSITORY / "README.md").read_text()


def test_each_value_has_an_alternative_here() -> None:
    assert leaves(VALUES) == set(OTHERS)


@pytest.mark.parametrize("path", sorted(OTHERS))
def test_each_value_is_used(path: str) -> None:
    base = everything_on()
    before = template(base, apis=MONITORING)
    after = template(with_value(base, path, OTHERS[path]), apis=MONITORING)
    assert after != before


def test_a_login_of_the_operators_own_pod_restarts_no_other() -> None:
    """Who has set it since before there was another value has databases that an upgrade is to leave alone."""

    def told(values: dict[str, Any]) -> tuple[Any, str]:
        pod = one(documents(template(values)), "Deployment")["spec"]["template"]["spec"]
        env = {item["name"]: item.get("value", "") for item in pod["containers"][0]["env"]}
        return pod.get("imagePullSecrets"), env["OPENCLAW_OPERATOR_IMAGE_PULL_SECRETS"]

    assert told({"imagePullSecrets": [{"name": "own"}]}) == ([{"name": "own"}], "")
    assert told({"agents": {"imagePullSecrets": [{"name": "one"}, {"name": "two"}]}}) == (None, "one,two")


def test_schema_lists_the_values_and_no_others() -> None:
    def keys(schema: dict[str, Any], values: Any, path: str) -> None:
        if "$ref" in schema:
            schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]]
        if "properties" in schema and isinstance(values, dict):
            assert schema["additionalProperties"] is False, path
            names = set(schema["properties"]) - {"global"}
            if path.endswith(("requests", "limits")):
                return
            assert names == set(values), path or "top level"
            for name in names:
                keys(schema["properties"][name], values[name], f"{path}.{name}".lstrip("."))

    keys(SCHEMA, VALUES, "")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"watchNamespace": ["a"]}, "watchNamespace"),
        ({"workers": 0}, "/workers"),
        ({"images": {"operator": {"repository": ""}}}, "/images/operator/repository"),
        ({"images": {"runtime": {"digest": "sha256:abc"}}}, "/images/runtime/digest"),
        ({"log": {"level": "loud"}}, "/log/level"),
        ({"watchNamespaces": ["Upper"]}, "/watchNamespaces/0"),
        ({"sandbox": {"trustedSkills": ["no-namespace"]}}, "/sandbox/trustedSkills/0"),
        ({"sandbox": {"trusted": []}}, "/sandbox"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name"),
    ],
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], says: str) -> None:
    command = [program("helm"), "template", "oc", str(CHART), "--kube-version", "1.34.4", "--values", "-"]
    result = run(*command, stdin=json.dumps(values))
    assert result.returncode != 0
    assert says in result.stderr


def test_crds_are_the_generated_ones() -> None:
    generated = {path.name: path.read_text() for path in (REPOSITORY / "crds").glob("*.yaml")}
    shipped = {path.name: path.read_text() for path in chart_file("files", "crds").glob("*.yaml")}
    assert shipped == generated, "fix: make chart"


def test_crds_are_installed_unchanged_and_kept_at_uninstall() -> None:
    rendered = [item for item in documents(template()) if item["kind"] == "CustomResourceDefinition"]
    generated = [yaml.safe_load(path.read_text()) for path in sorted((REPOSITORY / "crds").glob("*.yaml"))]
    assert [item["spec"] for item in rendered] == [item["spec"] for item in generated]
    assert all(item["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for item in rendered)


def test_rules_are_the_operators_own() -> None:
    assert chart_file("files", "rules.yaml").read_text() == rbac.to_yaml(), "fix: make chart"
    role = next(item for item in documents(template()) if item["metadata"]["name"] == "oc" and "rules" in item)
    assert role["kind"] == "ClusterRole"
    assert role["rules"] == rbac.policy_rules()


def test_watching_namespaces_needs_no_cluster_wide_right() -> None:
    # A Role can hold no rule of scope cluster: if there ever is one, the chart needs a small ClusterRole beside it.
    assert {rule.scope for rule in rbac.RULES} == {"served"}
    objects = documents(template({"watchNamespaces": ["one", "two"]}))
    assert not [item for item in objects if item["kind"] == "ClusterRoleBinding"]
    roles = {item["metadata"]["namespace"]: item["rules"] for item in objects if item["kind"] == "Role"}
    assert roles == {"one": rbac.policy_rules(), "two": rbac.policy_rules()}
    bound = [item for item in objects if item["kind"] == "RoleBinding"]
    assert {(item["metadata"]["namespace"], item["subjects"][0]["namespace"]) for item in bound} == {
        ("one", "openclaw-system"),
        ("two", "openclaw-system"),
    }


def test_who_has_no_cluster_wide_right_installs_what_needs_none() -> None:
    """As docs/operations.md says, once somebody else has applied the CRDs."""
    values = {"watchNamespaces": ["one"], "rbac": {"aggregate": False}, "crds": {"install": False}}
    objects = documents(template(values))
    assert objects
    assert not {item["kind"] for item in objects} & {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
    assert {item["metadata"].get("namespace") for item in objects} == {"one", "openclaw-system"}


def test_no_rule_has_a_wildcard() -> None:
    for item in documents(template()):
        for rule in item.get("rules", []):
            assert not {"*"} & {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}


def test_one_operator_and_never_two() -> None:
    spec = one(documents(template()), "Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_monitoring_waits_for_its_api() -> None:
    on = {"metrics": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}}
    kinds = {item["kind"] for item in documents(template(on))}
    assert not kinds & {"ServiceMonitor", "PrometheusRule"}
    kinds = {item["kind"] for item in documents(template(on, apis=MONITORING))}
    assert kinds >= {"ServiceMonitor", "PrometheusRule"}


def monitors(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The specs of the ServiceMonitors by what they scrape."""
    values = {**values, "metrics": {"serviceMonitor": {"enabled": True}}}
    found = [item for item in documents(template(values, apis=MONITORING)) if item["kind"] == "ServiceMonitor"]
    return {item["metadata"]["name"].removeprefix("oc").removeprefix("-"): item["spec"] for item in found}


# Of pods that the operator makes.
EVERYWHERE = ("gateways", "activators", "egress")


def test_monitors_find_what_they_scrape_and_each_of_it_once() -> None:
    made = [agent_service.service(agent_inputs("ada", {}))]
    made += egress.build("demo", "", EgressOptions("egress:1")) + activator.build("demo", [], IMAGES)
    policies = [*network.egress_policies("demo", internal=False), network.activator_policy("demo")]
    for name, objects in {"": documents(template()), **dict.fromkeys(EVERYWHERE, made)}.items():
        spec = monitors({})[name]
        wanted = spec["selector"]["matchLabels"].items()
        (endpoint,) = spec["endpoints"]
        (scraped,) = [
            item
            for item in objects
            if item["kind"] == "Service"
            and wanted <= item["metadata"]["labels"].items()
            and endpoint["port"] in {port["name"] for port in item["spec"]["ports"]}
        ]
        assert endpoint.get("path", "/metrics") == "/metrics"
        selector = scraped["spec"]["selector"]
        for policy in (item for item in policies if item["spec"]["podSelector"] == {"matchLabels": selector}):
            rules = [rule for rule in policy["spec"]["ingress"] if "monitoring" in json.dumps(rule["from"])]
            open_ = {port["port"] for rule in rules for port in rule["ports"]}
            assert open_ >= {port["port"] for port in scraped["spec"]["ports"]}, name
    everywhere, here = monitors({}), monitors({"watchNamespaces": ["demo"]})
    for name in EVERYWHERE:
        assert everywhere[name]["namespaceSelector"] == {"any": True}
        assert here[name]["namespaceSelector"] == {"matchNames": ["demo"]}
    assert monitors({"egress": {"enabled": False}}).keys() == {"", "gateways", "activators"}


def test_alerts_ask_for_this_release_and_point_at_the_runbooks() -> None:
    on = {"metrics": {"prometheusRule": {"enabled": True, "runbooks": "https://runbooks.example.org/openclaw"}}}
    rule = one(documents(template(on, apis=MONITORING)), "PrometheusRule")
    written = yaml.safe_load(chart_file("files", "alerts.yaml").read_text().replace("{{JOB}}", "oc-metrics"))
    for group in written["groups"]:
        for alert in group["rules"]:
            anchor = alert["annotations"]["runbook_url"].partition("#")[2]
            alert["annotations"]["runbook_url"] = f"https://runbooks.example.org/openclaw#{anchor}"
    assert rule["spec"] == written
    service = next(item for item in documents(template()) if item["kind"] == "Service")
    assert service["metadata"]["name"] == "oc-metrics"


def test_dashboards_arrive_as_they_are() -> None:
    maps = [
        item
        for item in documents(template({"metrics": {"dashboards": {"enabled": True}}}))
        if item["kind"] == "ConfigMap"
    ]
    shipped: dict[str, str] = {}
    for item in maps:
        assert item["metadata"]["labels"]["grafana_dashboard"] == "1"
        shipped |= item["data"]
    written = {f"openclaw-{path.name}": path.read_text() for path in chart_file("files", "dashboards").glob("*.json")}
    assert {name: json.loads(text) for name, text in shipped.items()} == {
        name: json.loads(text) for name, text in written.items()
    }
    assert len(written) == 2
    assert all(len(text.encode()) < 256 * 1024 for text in shipped.values())


def test_kubeconform_strict(api_server: ApiServer, tmp_path: Path) -> None:
    versions = [
        "api/v1",
        "apis/apps/v1",
        "apis/rbac.authorization.k8s.io/v1",
        "apis/networking.k8s.io/v1",
        "apis/apiextensions.k8s.io/v1",
    ]
    jsonschemas.from_server(program("kubectl"), api_server.kubeconfig, versions, tmp_path)
    command = [program("kubeconform"), "-strict", "-summary", "-schema-location", f"{tmp_path}/{jsonschemas.LOCATION}"]
    rendered = template()
    assert "Skipped: 0" in ok(*command, stdin=rendered)
    broken = rendered.replace("enableServiceLinks: false", "enableServiceLink: false")
    assert run(*command, stdin=broken).returncode != 0


def test_api_server_accepts_it_and_pod_security_restricted_does_not_warn(api_server: ApiServer) -> None:
    kubectl = [program("kubectl"), "--kubeconfig", str(api_server.kubeconfig)]
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": "openclaw-system",
            "labels": {
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/warn": "restricted",
            },
        },
    }
    ok(*kubectl, "apply", "--server-side", "-f", "-", stdin=json.dumps(namespace))
    apply = [*kubectl, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"]
    result = run(*apply, stdin=template())
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr
    root = template().replace("runAsNonRoot: true", "runAsNonRoot: false")
    assert "would violate PodSecurity" in run(*apply, stdin=root).stderr


def test_install_upgrade_uninstall_keeps_the_crds(api_server: ApiServer) -> None:
    helm = [program("helm"), "--kubeconfig", str(api_server.kubeconfig), "--namespace", "lifecycle"]
    kubectl = [program("kubectl"), "--kubeconfig", str(api_server.kubeconfig)]
    # Another test of this server may have applied the CRDs already.
    notes = ok(*helm, "upgrade", "--install", "oc", str(CHART), "--create-namespace", "--take-ownership")
    assert "kubectl -n lifecycle rollout status deployment/oc" in notes
    ok(*helm, "upgrade", "oc", str(CHART), "--set", "workers=3")
    assert "3" in ok(
        *kubectl,
        "-n",
        "lifecycle",
        "get",
        "deployment",
        "oc",
        "-o",
        "jsonpath={..env[?(@.name=='OPENCLAW_OPERATOR_WORKERS')].value}",
    )
    ok(*helm, "uninstall", "oc")
    assert run(*kubectl, "-n", "lifecycle", "get", "deployment", "oc").returncode != 0
    for kind in ("agents", "skills", "memorystores", "memoryrestores"):
        ok(*kubectl, "get", "crd", f"{kind}.openclaw.io")


def test_the_operator_reads_what_the_chart_sets_and_has_the_same_defaults() -> None:
    container = one(documents(template()), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    environment = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    from_chart = load_settings(environment).model_dump()
    assert from_chart == load_settings({}).model_dump()
    given = {name.removeprefix(PREFIX).lower() for name in environment}
    # The ports are the chart's own; the backup image follows the runtime image; limits are for tests to shorten.
    limits = {"request_seconds", "watch_silence_seconds", "page_size"}
    assert given == set(Settings.model_fields) - {"metrics_port", "health_port", "backup_image", *limits}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"health": Settings().health_port, "metrics": Settings().metrics_port}
