import json

import pytest

from openclaw_skill import SkillError

TOKEN = "ghp_" + "aB3" * 12


def places(output):
    return sorted((item["rule"], item["line"]) for item in output["findings"])


@pytest.fixture
def scan_one(call, ctx):
    async def scan(name, text, **options):
        place = ctx.workspace / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        return await call("scan", path=name, **options)

    return scan


async def test_secrets_are_found_masked_and_worst_first(scan_one):
    text = f"debug = True\npassword = 'q9X$kkP2!zvv'\ntoken = '{TOKEN}'\nok = '{TOKEN}'  # scan:ignore\n"
    got = await scan_one("settings.ini", text)
    assert [(item["severity"], item["line"]) for item in got["findings"]] == [("critical", 3), ("high", 2)]
    assert got["summary"] == {"critical": 1, "high": 1, "medium": 0, "low": 0}
    assert TOKEN not in json.dumps(got)
    assert "kkP2" not in json.dumps(got)


PYTHON = """import subprocess as sp
import hashlib, yaml, requests
from pickle import loads as unpack

def f(x, cursor, tar):
    eval(x)
    unpack(x)
    sp.run(x, shell=True)
    sp.run("ls", shell=True)
    sp.run(["ls"])
    hashlib.md5(x)
    hashlib.md5(x, usedforsecurity=False)
    yaml.load(x)
    yaml.load(x, Loader=yaml.SafeLoader)
    requests.get(x, verify=False)
    cursor.execute(f"select {x}")
    cursor.execute("select " + x)
    cursor.execute("select %s" % x)
    cursor.execute("select ?", (x,))
    cursor.execute("select " "1" + "2")
    tar.extractall(x)
    tar.extractall(x, filter="data")
"""


async def test_dangerous_python_is_found_through_import_names(scan_one):
    got = await scan_one("a.py", PYTHON)
    assert places(got) == [
        ("py-eval", 6),
        ("py-extractall", 21),
        ("py-loads", 7),
        ("py-md5", 11),
        ("py-no-verify", 15),
        ("py-shell-true", 8),
        ("py-shell-true", 9),
        ("py-sql", 16),
        ("py-sql", 17),
        ("py-sql", 18),
        ("py-yaml-load", 13),
    ]
    severities = {item["line"]: item["severity"] for item in got["findings"]}
    assert (severities[8], severities[9]) == ("high", "low")


async def test_javascript_and_shell(scan_one):
    js = "x.innerHTML = y\nif (x.innerHTML == y) {}\n// eval(x)\neval(x)\nnew Agent({rejectUnauthorized: false})\n"
    assert places(await scan_one("a.ts", js)) == [("js-eval", 4), ("js-html", 1), ("js-tls", 5)]
    sh = 'curl -s https://x.example | sudo bash\ncurl -k https://x.example\nchmod -R 777 .\neval "$C"\n# curl x | sh\n'
    assert places(await scan_one("a.sh", sh)) == [("sh-eval", 4), ("sh-mode", 3), ("sh-pipe", 1), ("sh-tls", 2)]


async def test_requirements(scan_one):
    text = (
        "# comment\nflask\nrequests>=2\nnumpy==2.*\nattrs==23.1\nclick==8.1 \\\n    --hash=sha256:abc\n"
        "pkg @ git+https://example.org/x\n-e git+https://example.org/x@0123456789012345678901234567890123456789\n"
        "--trusted-host example.org\n-r other.txt\n"
    )
    got = await scan_one("requirements-dev.txt", text)
    assert places(got) == [
        ("req-git-unpinned", 8),
        ("req-no-hash", 5),
        ("req-trusted-host", 10),
        ("req-unpinned", 2),
        ("req-unpinned", 3),
        ("req-unpinned", 4),
    ]
    assert places(await scan_one("requirements.lock", "click==8.1 --hash=sha256:abc\n")) == []


async def test_dockerfiles(scan_one):
    text = (
        "FROM python AS build\nARG API_KEY=abcdef\nARG TOKEN\nADD https://example.org/x /x\n"
        "FROM --platform=linux/amd64 debian:12.1 AS base\nUSER 1000\nFROM base\nENV PATH=/x\n"
    )
    got = await scan_one("Dockerfile", text)
    assert places(got) == [
        ("docker-add-url", 4),
        ("docker-latest", 1),
        ("docker-no-digest", 5),
        ("docker-root", 7),
        ("docker-secret", 2),
    ]
    good = "FROM python:3.12@sha256:" + "0" * 64 + "\nUSER 10001:10001\n"
    assert places(await scan_one("web/Dockerfile", good)) == []


MANIFEST = """# two objects
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
---
apiVersion: batch/v1
kind: CronJob
metadata:
  name: job
spec:
  jobTemplate:
    spec:
      template:
        spec:
          hostNetwork: true
          containers:
            - name: main
              image: web
              securityContext:
                privileged: true
                capabilities:
                  add: [NET_ADMIN]
            - name: side
              image: side@sha256:1
              resources: {limits: {memory: 1Gi}}
              securityContext:
                runAsNonRoot: true
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
          volumes:
            - name: sock
              hostPath: {path: /var/run/docker.sock}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: all}
rules:
  - {apiGroups: ["*"], resources: ["*"], verbs: ["*"]}
"""


async def test_manifests(scan_one):
    got = await scan_one("deploy/job.yaml", MANIFEST)
    assert places(got) == [
        ("k8s-capabilities", 21),
        ("k8s-escalation", 17),
        ("k8s-host", 15),
        ("k8s-host-path", 32),
        ("k8s-latest", 18),
        ("k8s-no-limit", 17),
        ("k8s-privileged", 20),
        ("k8s-rbac-all", 38),
        ("k8s-root", 17),
        ("k8s-writable-root", 17),
    ]
    assert got["summary"]["critical"] == 2


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: v1\nkind: {{ .Values.kind }}\n  x\n",
        '{"apiVersion": "v1", "kind": "Pod", "spec": null}',
        "apiVersion: v1\nkind: Pod\nspec: {containers: [1, null, {securityContext: 3, resources: x, image: 1.2}]}\n",
        "apiVersion: v1\nkind: List\nitems: {a: 1}\n",
        "- apiVersion\n- kind\n",
    ],
)
async def test_odd_manifests_do_no_harm(scan_one, text):
    got = await scan_one("x.yaml", text)
    assert all(item["rule"].startswith("k8s-") for item in got["findings"])


async def test_permissions(call, ctx):
    for name, mode in {"open.txt": 0o666, "tool": 0o4755, "id_rsa": 0o644, "safe.key": 0o600, "ca.pem": 0o644}.items():
        place = ctx.workspace / name
        place.write_text("x")
        place.chmod(mode)
    got = await call("scan", checks=["permissions"])
    assert [(item["file"], item["rule"]) for item in got["findings"]] == [
        ("tool", "perm-setuid"),
        ("id_rsa", "perm-private"),
        ("open.txt", "perm-world-writable"),
    ]
    assert "mode 4755" in got["findings"][0]["message"]


async def test_narrowing(call, ctx, scan_one):
    await scan_one("src/a.py", "eval(x)\n")
    await scan_one("tests/b.py", f"t = '{TOKEN}'\nhashlib.md5(x)\n")
    (ctx.workspace / "blob.bin").write_bytes(b"\0" * 10)
    (ctx.workspace / "node_modules").mkdir()
    (ctx.workspace / "node_modules" / "c.py").write_text("eval(x)\n")
    everything = await call("scan")
    assert (everything["filesScanned"], everything["filesNotRead"], len(everything["findings"])) == (3, 1, 3)
    worst = await call("scan", minSeverity="critical")
    assert [item["rule"] for item in worst["findings"]] == ["secret-github-token"]
    assert [item["file"] for item in (await call("scan", exclude=["tests/*"]))["findings"]] == ["src/a.py"]
    cut = await call("scan", limit=1)
    assert (len(cut["findings"]), cut["truncated"]) == (1, True)
    ctx.config["exclude"] = ["*.py"]
    assert (await call("scan"))["findings"] == []
    with pytest.raises(SkillError, match="does not exist"):
        await call("scan", path="nope")


async def test_fingerprints_survive_moved_lines(scan_one):
    before = await scan_one("a.py", "eval(x)\nexec(x)\n")
    after = await scan_one("a.py", "\n\n\neval(x)\nexec(x)\n")
    prints = [[item["fingerprint"] for item in output["findings"]] for output in (before, after)]
    assert prints[0] == prints[1]
    assert len(set(prints[0])) == 2


async def test_sarif_has_the_required_shape(call, scan_one):
    await scan_one("dir name/a.py", "eval(x)\n")
    got = await call("scan", format="sarif")
    log = got["sarif"]
    (run,) = log["runs"]
    assert (log["version"], run["tool"]["driver"]["name"]) == ("2.1.0", "openclaw-security-scanner")
    (result,) = run["results"]
    rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
    assert (rule["id"], result["ruleId"], result["level"]) == ("py-eval", "py-eval", "error")
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]) == ("dir%20name/a.py", {"startLine": 1})
    assert result["message"]["text"]
    assert result["partialFingerprints"]["openclaw/v1"] == got["findings"][0]["fingerprint"]
    assert "sarif" not in await call("scan")
