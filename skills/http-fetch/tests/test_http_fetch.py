import base64
import gzip
import json
import threading

import pytest

from openclaw_skill import SkillError
from tests.fakes.http_server import Reply, serve

PAGE = """<!doctype html><html><head><title>Guide &amp; more</title><style>p {color: red}</style></head><body>
<nav><a href="/home">Home</a></nav><h1>First  steps</h1><p>Take <b>one</b> step,
see <a href="next.html">the next</a>.<script>alert('x')</script></p>
<ul><li>alpha<ul><li>inner</li></ul></li><li>beta</li></ul><ol><li>one<li>two</ol>
<pre>def f():
    return 1
</pre><table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>2</td></tr></table><p>end<br>line</p></body></html>"""

TEXT = """[Home]({base}/home)

# First steps

Take **one** step, see [the next]({base}/docs/next.html).

- alpha
  - inner
- beta

1. one
2. two

```
def f():
    return 1
```

A | B
1 | 2

end
line"""


@pytest.fixture
def site(ctx):
    pages = {}

    def answer(seen):
        page = pages.get(seen.path, Reply(404, b"no such page", {"Content-Type": "text/plain"}))
        return page(seen) if callable(page) else page

    ctx.allowed_domains = ("127.0.0.1",)
    with serve(answer) as server:
        server.pages = pages
        yield server


async def test_a_page_becomes_readable_text(call, site):
    site.pages["/docs/page"] = Reply(200, PAGE.encode(), {"Content-Type": "text/html; charset=utf-8"})
    got = await call("get", url=f"{site.url}/docs/page#part")
    assert (got["title"], got["format"], got["ok"]) == ("Guide & more", "text", True)
    assert got["body"] == TEXT.format(base=site.url)
    assert site.seen[0].headers["user-agent"] == "OpenClaw-Skill"
    assert (await call("get", url=f"{site.url}/docs/page", format="raw"))["body"] == PAGE


async def test_broken_html_still_gives_its_text(call, site):
    site.pages["/"] = Reply(200, b"</p><p>a<li>b</ul></a><h2>c<pre>d</p>&nbsp;&#x41;", {"Content-Type": "text/html"})
    body = (await call("get", url=site.url))["body"]
    assert [word in body for word in ("a", "- b", "## c", "d", "A")] == [True] * 5


async def test_encodings(call, site):
    site.pages["/header"] = Reply(200, "Grün".encode("latin-1"), {"Content-Type": "text/plain; charset=ISO-8859-1"})
    site.pages["/meta"] = Reply(200, b'<meta charset="windows-1252"><p>\x80', {"Content-Type": "text/html"})
    site.pages["/odd"] = Reply(200, "ü".encode(), {"Content-Type": "text/plain; charset=nonsense"})
    for path, text in {"/header": "Grün", "/meta": "€", "/odd": "ü"}.items():
        assert (await call("get", url=site.url + path))["body"] == text


async def test_json_passes_through(call, site):
    site.pages["/api"] = Reply(200, b'{"a": [1, null]}', {"Content-Type": "application/vnd.x+json"})
    site.pages["/bad"] = Reply(200, b"{", {"Content-Type": "application/json"})
    assert (await call("get", url=f"{site.url}/api"))["json"] == {"a": [1, None]}
    assert (await call("get", url=f"{site.url}/bad"))["body"] == "{"
    with pytest.raises(SkillError, match="is not JSON"):
        await call("get", url=f"{site.url}/bad", format="json")


async def test_bytes_come_as_base64(call, site):
    site.pages["/i.png"] = Reply(200, b"\x89PNG\xff", {"Content-Type": "image/png"})
    got = await call("get", url=f"{site.url}/i.png")
    assert base64.b64decode(got["body"]) == b"\x89PNG\xff"


async def test_statuses_are_results(call, site):
    got = await call("get", url=f"{site.url}/missing")
    assert (got["status"], got["ok"], got["body"]) == (404, False, "no such page")


async def test_size_cap_also_inside_compression(call, site):
    bomb = gzip.compress(b"x" * 50_000_000)
    site.pages["/bomb"] = Reply(200, bomb, {"Content-Type": "text/plain", "Content-Encoding": "gzip"})
    packed = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    site.pages["/small"] = Reply(200, gzip.compress(b"hello"), packed)
    site.pages["/long"] = Reply(200, b"y" * 2000, {"Content-Type": "text/plain"})
    for path in ("/bomb", "/long"):
        got = await call("get", url=site.url + path, maxBytes=1000)
        assert (got["sizeBytes"], got["truncated"]) == (1000, True)
    got = await call("get", url=f"{site.url}/small")
    assert (got["body"], got["truncated"]) == ("hello", False)


async def test_post_and_head(call, site):
    site.pages["/echo"] = lambda seen: Reply(201, seen.body, {"Content-Type": seen.headers.get("content-type", "")})
    got = await call("post", url=f"{site.url}/echo", json={"q": "ü"}, headers={"X-Token": "t"})
    assert (got["status"], got["json"]) == (201, {"q": "ü"})
    assert site.seen[-1].headers["x-token"] == "t"
    form = await call("post", url=f"{site.url}/echo", body="a=1", contentType="application/x-www-form-urlencoded")
    assert site.seen[-1].headers["content-type"] == "application/x-www-form-urlencoded"
    assert base64.b64decode(form["body"]) == b"a=1"
    assert "body" not in await call("head", url=f"{site.url}/echo")
    assert [seen.method for seen in site.seen] == ["POST", "POST", "HEAD"]
    with pytest.raises(SkillError, match="exactly one"):
        await call("post", url=f"{site.url}/echo")


async def test_redirects_are_followed_and_checked(call, site, ctx):
    site.pages["/old"] = Reply(302, headers={"Location": "/new"})
    site.pages["/new"] = Reply(200, b"here", {"Content-Type": "text/plain"})
    site.pages["/away"] = Reply(301, headers={"Location": f"http://localhost:{site.port}/new"})
    site.pages["/file"] = Reply(302, headers={"Location": "file:///etc/passwd"})
    site.pages["/loop"] = Reply(302, headers={"Location": "/loop"})
    got = await call("get", url=f"{site.url}/old")
    assert (got["body"], got["url"], got["redirects"]) == ("here", f"{site.url}/new", [f"{site.url}/new"])
    with pytest.raises(SkillError, match=r"localhost is not among .* \(redirect from"):
        await call("get", url=f"{site.url}/away")
    for path in ("/file", "/loop"):
        with pytest.raises(SkillError):
            await call("get", url=site.url + path)
    ctx.allowed_domains = ("127.0.0.1", "localhost")
    await call("get", url=f"{site.url}/away", headers={"Authorization": "secret", "X-Other": "1"})
    assert "authorization" not in site.seen[-1].headers
    assert site.seen[-1].headers["x-other"] == "1"
    assert site.seen[-2].headers["authorization"] == "secret"


async def test_a_post_is_not_repeated_by_a_redirect(call, site):
    site.pages["/a"] = Reply(307, b"", {"Location": "/b"})
    assert (await call("post", url=f"{site.url}/a", body="x"))["status"] == 307
    assert [seen.path for seen in site.seen] == ["/a"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("ftp://127.0.0.1/x", "only http and https"),
        ("http://user:pw@127.0.0.1/", "Authorization"),
        ("http://127.0.0.1:99999999/", "is not a URL"),
        ("http://127.0.0.1/a b", "percent-encoded"),
        ("http://169.254.169.254/latest", "not among"),
        ("http://127.0.0.1.example.com/", "not among"),
        ("http://[::1]/", "not among"),
    ],
)
async def test_addresses_that_are_refused(call, site, url, says):
    with pytest.raises(SkillError, match=says):
        await call("get", url=url)
    assert site.seen == []


@pytest.mark.parametrize(
    ("host", "domains", "expected"),
    [
        ("a.example.com", ["*.example.com"], True),
        ("A.Example.COM.", ["*.example.com"], True),
        ("example.com", ["*.example.com"], False),
        ("example.com", ["example.com"], True),
        ("evilexample.com", ["*.example.com", "example.com"], False),
        ("example.com", [], False),
    ],
)
def test_domains(skill, host, domains, expected):
    assert skill.policy.matches(host, domains) is expected


def test_the_configuration_can_only_narrow_the_signed_list(skill, ctx):
    ctx.allowed_domains = ("*.example.com", "python.org")
    ctx.config = {"allowedDomains": ["docs.example.com", "*.docs.example.com", "evil.org", "*.python.org"]}
    assert skill.policy.domains_of(ctx) == ("docs.example.com", "*.docs.example.com")


async def test_headers_that_change_the_connection_are_refused(call, site):
    for headers in ({"Host": "x"}, {"X-A": "1\r\nX-B: 2"}):
        with pytest.raises(SkillError, match="headers"):
            await call("get", url=site.url, headers=headers)


async def test_the_proxy_of_the_environment_is_used(call, ctx, monkeypatch):
    ctx.allowed_domains = ("pages.example",)
    kind = {"Content-Type": "application/json"}
    with serve(lambda seen: Reply(200, json.dumps(seen.target).encode(), kind)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert (await call("get", url="http://pages.example/x"))["json"] == "http://pages.example/x"


async def test_a_silent_server_is_a_clear_error(call, ctx, site):
    release = threading.Event()

    def hang(_seen):
        release.wait(30)
        return Reply()

    site.pages["/hang"] = hang
    try:
        with pytest.raises(SkillError, match=r"did not answer within 0\.2 s|timed out"):
            await call("get", url=f"{site.url}/hang", timeoutSeconds=0.2)
    finally:
        release.set()
    with pytest.raises(SkillError, match="could not be fetched"):
        await call("get", url="http://127.0.0.1:1/")
