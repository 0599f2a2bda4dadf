"""What a skill reaches through the proxy and what it does not, tried with a real Squid."""

import asyncio
import contextlib

import httpx
import pytest

from openclaw_runtime.egress.squid import MAX_CONNECTIONS
from openclaw_runtime.sandbox.signing import Signer
from tests.integration.egress.conftest import CLIENT, Proxy

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_listed_host_is_reached_over_tls_until_the_call_is_over(proxy: Proxy) -> None:
    port = proxy.outside.https
    token = proxy.token(f"allowed.test:{port}", call_id="call-over")
    assert await proxy.connect("allowed.test", port, token) == "ok"
    line = await proxy.line("allowed")
    assert line["callId"] == "call-over"
    assert (line["agent"], line["skill"], line["client"]) == ("writer", "fetch", CLIENT)
    assert (line["host"], line["port"], line["sni"]) == ("allowed.test", port, "allowed.test")
    assert line["bytesReceived"] > 0
    assert line["bytesSent"] > 0
    assert (await proxy.end(token, "call-2")).status_code == 403
    assert (await proxy.end("nonsense", "call-over")).status_code == 401
    answer = await proxy.end(token, "call-over")
    assert [item["verdict"] for item in answer.json()["decisions"]] == ["allowed"]
    async with httpx.AsyncClient(timeout=60) as client:
        metrics = (await client.get(f"http://{CLIENT}:{proxy.api_port}/metrics")).text
    assert 'openclaw_egress_requests_total{verdict="allowed",reason="allowed"} 1' in metrics
    # Whoever kept it gets nowhere, and the grant of the next call is good.
    assert await proxy.connect("allowed.test", port, token) == "403"
    assert (await proxy.line("token_ended"))["callId"] == "call-over"
    assert await proxy.connect("allowed.test", port, proxy.token(f"allowed.test:{port}")) == "ok"


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("other.test", "domain_not_allowed"),
        ("sub.allowed.test", "domain_not_allowed"),
        ("inside.test", "address_private"),
        ("metadata.test", "address_forbidden"),
        ("mapped.test", "address_forbidden"),
        ("rebinding.test", "address_forbidden"),
        ("api.test", "api_server"),
        ("169.254.169.254", "address_forbidden"),
        ("127.0.0.1", "address_forbidden"),
        ("nowhere.test", "not_resolved"),
    ],
)
async def test_what_is_not_allowed_is_refused_before_anything_is_dialled(proxy: Proxy, host: str, reason: str) -> None:
    port = proxy.outside.https
    listed = [f"{name}:{port}" for name in (*proxy.outside.names, "169.254.169.254", "127.0.0.1", "nowhere.test")]
    if reason == "domain_not_allowed":
        listed = [f"allowed.test:{port}"]
    assert await proxy.connect(host, port, proxy.token(*listed)) == "403"
    line = await proxy.line(reason)
    assert line["verdict"] == "denied"


@pytest.mark.parametrize(
    ("sni", "reason"), [("other.test", "sni_mismatch"), (None, "sni_missing")], ids=["another name", "no name"]
)
async def test_the_name_in_tls_is_the_name_of_connect(proxy: Proxy, sni: str | None, reason: str) -> None:
    port = proxy.outside.https
    token = proxy.token(f"allowed.test:{port}", f"other.test:{port}")
    assert await proxy.connect("allowed.test", port, token, sni=sni) == "closed"
    assert (await proxy.line(reason))["verdict"] == "denied"


async def test_a_tunnel_carries_tls_and_nothing_else(proxy: Proxy) -> None:
    port = proxy.outside.http
    token = proxy.token(f"allowed.test:{port}")
    await proxy.connect("allowed.test", port, token, data=b"GET /plain HTTP/1.0\r\n\r\n")
    line = await proxy.line("not_tls")
    assert line["verdict"] == "denied"


async def test_tokens_are_good_for_one_pod_and_a_short_time(proxy: Proxy) -> None:
    port, domain = proxy.outside.https, f"allowed.test:{proxy.outside.https}"
    forged = proxy.token(domain)
    proxy.signer, own = Signer.generate(), proxy.signer
    stranger = proxy.token(domain)
    proxy.signer = own
    for token, status, reason in (
        (None, "407", "no_token"),
        ("", "407", "no_token"),
        (f"{forged[:-4]}AAAA", "403", "token_forged"),
        (stranger, "403", "token_forged"),
        (proxy.token(domain, expires_at=1), "403", "token_expired"),
        (proxy.token(domain, client="10.0.0.9"), "403", "token_of_another_pod"),
    ):
        assert await proxy.connect("allowed.test", port, token) == status, reason
        await proxy.line(reason)
        proxy.lines.clear()


async def test_plain_http_goes_by_the_same_rules_and_leaves_the_token_behind(proxy: Proxy) -> None:
    port = proxy.outside.http
    token = proxy.token(f"allowed.test:{port}")
    async with httpx.AsyncClient(proxy=proxy.url(token), timeout=60) as client:
        answer = await client.get(f"http://allowed.test:{port}/page?q=1")
        assert answer.text == f"/page?q=1 host=allowed.test:{port} auth=None"
        fronted = await client.get(f"http://allowed.test:{port}/", headers={"Host": "other.test"})
        assert fronted.text == f"/ host=allowed.test:{port} auth=None"
        assert (await client.get(f"http://other.test:{port}/")).status_code == 403
    assert (await proxy.line("allowed"))["bytesReceived"] > 0


async def test_ordinary_programs_find_the_way_by_their_environment(proxy: Proxy) -> None:
    port = proxy.outside.https
    url = proxy.url(proxy.token(f"allowed.test:{port}"))
    for command in (
        ["curl", "-sS", "--cacert", str(proxy.outside.ca), f"https://allowed.test:{port}/curl"],
        ["git", "-c", f"http.sslCAInfo={proxy.outside.ca}", "ls-remote", f"https://allowed.test:{port}/git"],
        [
            "python3",
            "-c",
            "import ssl, sys, urllib.request as u; c = ssl.create_default_context(cafile=sys.argv[1]);"
            "print(u.urlopen(sys.argv[2], context=c).read().decode())",
            str(proxy.outside.ca),
            f"https://allowed.test:{port}/python",
        ],
    ):
        process = await asyncio.create_subprocess_exec(
            *command,
            env={"PATH": "/usr/bin:/bin", "https_proxy": url, "HTTPS_PROXY": url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
        if command[0] == "git":
            # To git, the server's answer is that of a repository without references.
            assert (process.returncode, output) == (0, "")
        else:
            assert f"host=allowed.test:{port}" in output, output


async def test_one_client_cannot_use_up_the_proxy(proxy: Proxy) -> None:
    port = proxy.outside.https
    token = proxy.token(f"allowed.test:{port}")
    async with contextlib.AsyncExitStack() as idle:
        for _ in range(MAX_CONNECTIONS - 1):
            _, writer = await asyncio.open_connection(CLIENT, proxy.port)
            idle.callback(writer.close)
        assert await proxy.connect("allowed.test", port, token) == "ok"
        _, writer = await asyncio.open_connection(CLIENT, proxy.port)
        idle.callback(writer.close)
        assert await proxy.connect("allowed.test", port, token) == "403"
