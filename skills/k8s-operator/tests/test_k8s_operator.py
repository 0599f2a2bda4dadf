import base64
import datetime
import ipaddress
import json
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from openclaw_skill import SkillError
from tests.fakes.http_server import Reply, serve

CORE = {
    "resources": [
        {"name": "pods", "singularName": "pod", "kind": "Pod", "namespaced": True, "shortNames": ["po"]},
        {"name": "pods/log", "singularName": "", "kind": "Pod", "namespaced": True},
        {"name": "secrets", "singularName": "secret", "kind": "Secret", "namespaced": True},
        {"name": "nodes", "singularName": "node", "kind": "Node", "namespaced": False, "shortNames": ["no"]},
    ]
}
APPS = {
    "resources": [
        {
            "name": "deployments",
            "singularName": "deployment",
            "kind": "Deployment",
            "namespaced": True,
            "shortNames": ["deploy"],
        }
    ]
}
AGENTS = {
    "resources": [
        {"name": "agents", "singularName": "agent", "kind": "Agent", "namespaced": True, "shortNames": ["ag"]}
    ]
}
POD = {
    "kind": "Pod",
    "metadata": {
        "name": "web-1",
        "namespace": "shop",
        "uid": "u1",
        "creationTimestamp": "2020-01-01T00:00:00Z",
        "labels": {"app": "web"},
        "managedFields": [{}],
        "ownerReferences": [{"kind": "ReplicaSet", "name": "web"}],
    },
    "spec": {"containers": [{"name": "c", "image": "web:1", "resources": {"limits": {"cpu": "1"}}}]},
    "status": {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "c"}],
        "containerStatuses": [
            {"name": "c", "ready": False, "restartCount": 7, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
        ],
    },
}
DEPLOYMENT = {
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {"replicas": 3},
    "status": {"readyReplicas": 2},
}


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """A server certificate that is its own authority, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(pem + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, pem.decode()


@pytest.fixture
def api(ctx, identity):
    objects = {
        "/api/v1": CORE,
        "/apis/apps/v1": APPS,
        "/apis": {"groups": [{"preferredVersion": {"groupVersion": "openclaw.io/v1alpha1"}}]},
        "/apis/openclaw.io/v1alpha1": AGENTS,
        **{
            f"/apis/{group}": {"resources": []}
            for group in ("batch/v1", "networking.k8s.io/v1", "autoscaling/v2", "policy/v1")
        },
    }

    def answer(seen):
        if seen.headers.get("authorization") != "Bearer token-1":
            return Reply(401, b'{"kind": "Status", "message": "Unauthorized"}')
        value = objects.get((seen.method, seen.path), objects.get(seen.path))
        if value is None:
            return Reply(404, b'{"kind": "Status", "message": "not found"}')
        if callable(value):
            value = value(seen)
        return value if isinstance(value, Reply) else Reply(200, json.dumps(value).encode())

    tls, pem = identity
    with serve(answer, tls) as server:
        server.objects = objects
        ctx.secrets = {"KUBE_API_SERVER": server.url, "KUBE_TOKEN": "token-1\n", "KUBE_CA": pem}
        ctx.config = {"namespace": "shop"}
        yield server


@pytest.mark.parametrize("kind", ["Pod", "pods", "pod", "po"])
async def test_list_takes_every_name_of_a_kind(call, api, kind):
    api.objects["/api/v1/namespaces/shop/pods"] = {"items": [POD], "metadata": {"continue": "x"}}
    got = await call("list", kind=kind, labelSelector="app=web", limit=1)
    (row,) = got["items"]
    assert (row["name"], row["namespace"], row["status"]) == (
        "web-1",
        "shop",
        "CrashLoopBackOff, 0/1 ready, 7 restarts",
    )
    assert row["age"].endswith("d")
    assert got["truncated"]
    assert api.seen[-1].query == {"labelSelector": "app=web", "limit": "1"}


async def test_list_over_all_namespaces_groups_and_custom_kinds(call, api):
    api.objects["/apis/apps/v1/deployments"] = {"items": [DEPLOYMENT]}
    assert (await call("list", kind="deploy", namespace="*"))["items"][0]["status"] == "2/3 ready"
    agent = {
        "metadata": {"name": "a"},
        "status": {"conditions": [{"type": "Ready", "status": "False", "reason": "NoKey"}]},
    }
    api.objects["/apis/openclaw.io/v1alpha1/namespaces/shop/agents"] = {"items": [agent]}
    got = await call("list", kind="Agent")
    assert (got["apiVersion"], got["items"][0]["status"]) == ("openclaw.io/v1alpha1", "not Ready: NoKey")
    with pytest.raises(SkillError, match="kind: the cluster has no 'Wombat'"):
        await call("list", kind="Wombat")
    with pytest.raises(SkillError, match="kind: v1 has no 'Deployment'"):
        await call("list", kind="Deployment", apiVersion="v1")


async def test_get_hides_what_is_secret(call, api):
    secret = {"kind": "Secret", "metadata": {"name": "s", "managedFields": []}, "data": {"password": "aHVudGVyMg=="}}
    secret["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "hunter2", "a": "b"}
    api.objects["/api/v1/namespaces/shop/secrets/s"] = secret
    got = await call("get", kind="secret", name="s")
    assert got["object"] == {
        "kind": "Secret",
        "metadata": {"name": "s", "annotations": {"a": "b"}},
        "data": {"password": "[hidden]"},
    }


async def test_describe_brings_it_together(call, api):
    api.objects["/api/v1/namespaces/shop/pods/web-1"] = POD
    event = {
        "type": "Warning",
        "reason": "BackOff",
        "message": "again",
        "involvedObject": {"kind": "Pod", "name": "web-1"},
    }
    old = {**event, "lastTimestamp": "2021-01-01T00:00:00Z", "count": 5, "reason": "Old"}
    new = {**event, "eventTime": "2022-01-01T00:00:00.123456Z"}
    api.objects["/api/v1/namespaces/shop/events"] = {"items": [old, new]}
    got = await call("describe", kind="pod", name="web-1")
    assert (got["kind"], got["owners"], got["labels"]) == ("Pod", ["ReplicaSet/web"], {"app": "web"})
    assert got["containers"][0]["restarts"] == 7
    assert [(item["reason"], item["count"]) for item in got["events"]] == [("BackOff", 1), ("Old", 5)]
    assert api.seen[-1].query["fieldSelector"] == "involvedObject.uid=u1"


async def test_logs(call, api):
    api.objects["/api/v1/namespaces/shop/pods/web-1/log"] = Reply(200, b"one\nerror two\nthree\n")
    got = await call("logs", pod="web-1", container="c", tailLines=5, previous=True, contains="error")
    assert got["lines"] == ["error two"]
    assert api.seen[-1].query == {"container": "c", "tailLines": "5", "previous": "true", "limitBytes": "524288"}


async def test_events_and_top(call, api):
    api.objects["/api/v1/namespaces/shop/events"] = {"items": [{"lastTimestamp": "2021-01-01T00:00:00Z"}] * 3}
    got = await call("events", name="web-1", warningsOnly=True, limit=2)
    assert (len(got["events"]), got["truncated"]) == (2, True)
    assert api.seen[-1].query["fieldSelector"] == "involvedObject.name=web-1,type=Warning"
    use = lambda name, *pairs: {  # noqa: E731
        "metadata": {"name": name, "namespace": "shop"},
        "containers": [{"usage": {"cpu": cpu, "memory": memory}} for cpu, memory in pairs],
    }
    api.objects["/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods"] = {
        "items": [use("a", ("100m", "1Gi")), use("b", ("250000000n", "64Mi"), ("1", "1024"))]
    }
    rows = (await call("top"))["items"]
    assert [(row["name"], row["cpuCores"], row["memoryBytes"]) for row in rows] == [
        ("b", 1.25, 67109888),
        ("a", 0.1, 1073741824),
    ]
    assert (await call("top", sortBy="memory"))["items"][0]["name"] == "a"


@pytest.mark.parametrize(
    ("action", "request_"),
    [
        ("scale", {"kind": "deploy", "name": "web", "replicas": 0}),
        ("restart", {"kind": "deploy", "name": "web"}),
        ("apply", {"manifest": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}}),
    ],
)
@pytest.mark.parametrize("setting", [None, False, "yes", 1])
async def test_nothing_is_written_unless_allowed(call, api, ctx, action, request_, setting):
    if setting is not None:
        ctx.config["allowWrites"] = setting
    with pytest.raises(SkillError, match=r"config\.allowWrites"):
        await call(action, **request_)
    assert api.seen == []


async def test_writes_where_they_are_allowed(call, api, ctx):
    ctx.config["allowWrites"] = True
    web = "/apis/apps/v1/namespaces/shop/deployments/web"
    api.objects[("GET", f"{web}/scale")] = {"spec": {"replicas": 3}}
    api.objects[("PATCH", f"{web}/scale")] = lambda seen: json.loads(seen.body)
    assert await call("scale", kind="Deployment", name="web", replicas=5) == {
        "kind": "Deployment",
        "name": "web",
        "before": 3,
        "after": 5,
    }
    assert api.seen[-1].headers["content-type"] == "application/merge-patch+json"
    api.objects[("PATCH", web)] = DEPLOYMENT
    stamp = (await call("restart", kind="Deployment", name="web", dryRun=True))["restartedAt"]
    body = json.loads(api.seen[-1].body)
    assert body["spec"]["template"]["metadata"]["annotations"] == {"kubectl.kubernetes.io/restartedAt": stamp}
    assert api.seen[-1].query == {"fieldManager": "openclaw-k8s-operator", "dryRun": "All"}
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 1}}
    await call("apply", manifest=manifest, force=True)
    seen = api.seen[-1]
    assert json.loads(seen.body) == manifest
    assert seen.headers["content-type"] == "application/apply-patch+yaml"
    assert seen.query == {"fieldManager": "openclaw-k8s-operator", "force": "true"}
    with pytest.raises(SkillError, match=r"manifest\.metadata\.name"):
        await call("apply", manifest={"apiVersion": "v1", "kind": "Pod"})
    with pytest.raises(SkillError, match="a Pod cannot be restarted"):
        await call("restart", kind="Pod", name="x")


async def test_the_namespaces_can_be_limited(call, api, ctx):
    ctx.config["namespaces"] = ["shop"]
    for namespace in ("kube-system", "*"):
        with pytest.raises(SkillError, match=r"is not in config\.namespaces \(shop\)"):
            await call("list", kind="pods", namespace=namespace)
    with pytest.raises(SkillError, match="belongs to no namespace"):
        await call("list", kind="nodes")
    with pytest.raises(SkillError, match="belong to no namespace"):
        await call("top", of="nodes")


@pytest.mark.parametrize("name", ["../../secrets/s", "a/b", "..", "a?b"])
async def test_names_cannot_change_the_path(call, api, name):
    with pytest.raises(SkillError, match=r"name: .* is no Kubernetes name"):
        await call("get", kind="pod", name=name)
    with pytest.raises(SkillError, match="no Kubernetes name"):
        await call("logs", pod=name)


async def test_refusals_are_told_in_words(call, api, ctx):
    with pytest.raises(SkillError, match=r"\(404\): not found; check kind, name and namespace"):
        await call("get", kind="pod", name="nope")
    api.objects["/api/v1/namespaces/shop/pods"] = Reply(500, b"zz", {"Transfer-Encoding": "chunked"})
    with pytest.raises(SkillError, match=r"\(500\)"):
        await call("list", kind="pods")
    ctx.secrets["KUBE_TOKEN"] = "other"
    with pytest.raises(SkillError, match=r"\(401\): Unauthorized; KUBE_TOKEN is not accepted"):
        await call("list", kind="pods")


async def test_redirects_do_not_carry_the_token_away(call, api):
    with serve(lambda _seen: Reply()) as thief:
        api.objects["/api/v1"] = Reply(302, b"", {"Location": thief.url})
        with pytest.raises(SkillError, match=r"\(302\)"):
            await call("list", kind="pods")
        assert thief.seen == []


async def test_an_unknown_authority_is_refused(call, api, ctx, identity):
    ctx.secrets["KUBE_CA"] = base64.b64encode(identity[1].encode()).decode()
    api.objects["/api/v1/namespaces/shop/pods"] = {"items": []}
    assert (await call("list", kind="pods"))["items"] == []
    ctx.secrets["KUBE_CA"] = ""
    with pytest.raises(SkillError, match=r"is not reachable: .*CERTIFICATE_VERIFY_FAILED"):
        await call("list", kind="pods")


@pytest.mark.parametrize(
    ("secrets", "says"),
    [
        ({}, "KUBE_API_SERVER: empty"),
        ({"KUBE_API_SERVER": "http://127.0.0.1:1"}, "KUBE_API_SERVER: http://127.0.0.1; give https"),
        ({"KUBE_API_SERVER": "https://127.0.0.1:1"}, "KUBE_TOKEN: it is empty"),
        ({"KUBE_API_SERVER": "https://127.0.0.1:1", "KUBE_TOKEN": "a\nb"}, "KUBE_TOKEN: it is empty or malformed"),
        ({"KUBE_API_SERVER": "https://127.0.0.1:1", "KUBE_TOKEN": "t", "KUBE_CA": "zzz"}, "KUBE_CA: it is no PEM"),
        ({"KUBE_API_SERVER": "https://127.0.0.1:1", "KUBE_TOKEN": "t"}, "https://127.0.0.1:1 is not reachable"),
    ],
)
async def test_missing_and_wrong_secrets(call, ctx, secrets, says):
    ctx.secrets = secrets
    with pytest.raises(SkillError, match=says):
        await call("list", kind="pods")


@pytest.mark.parametrize(
    ("text", "number"),
    [("250m", 0.25), ("1", 1), ("2Ki", 2048), ("1.5Gi", 1610612736), ("12345n", 1.2345e-5), ("1e3", 1000)],
)
def test_quantities(skill, text, number):
    assert skill.summaries.quantity(text) == pytest.approx(number)
