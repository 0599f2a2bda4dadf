import pytest

from openclaw_skill import ContextError, SkillError

MODULE = '''"""Prices."""
import asyncio


def gross(net: float, rate: float = 0.2, *extra: int, round_to: int = 2, **more: str) -> float:
    """Adds tax.

    >>> gross(10)
    12.0
    >>> gross("x")
    Traceback (most recent call last):
    TypeError
    >>> gross  # doctest: +ELLIPSIS
    <function gross at ...>
    """
    return round(net * (1 + rate), round_to)


async def fetch(url):
    await asyncio.sleep(0)


def _private():
    pass


class Thing:
    def method(self):
        pass
'''

GOOD = """Sure!
```python
import unittest
from shop.prices import gross

class GrossTest(unittest.TestCase):
    def test_ordinary(self):
        self.assertEqual(gross(100), 120.0)

    def test_wrong(self):
        self.assertEqual(gross(100), 999)
```
"""


@pytest.fixture
def shop(ctx):
    package = ctx.workspace / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "prices.py").write_text(MODULE)
    return ctx.workspace


@pytest.fixture(params=["unittest", "pytest"])
def runner(request, skill, monkeypatch):
    monkeypatch.setattr(skill.running, "has_pytest", lambda: request.param == "pytest")
    return request.param


async def test_inspect_reads_without_importing(call, shop):
    (shop / "src/shop/prices.py").write_text(MODULE + "\nraise SystemExit\n")
    got = await call("inspect", module="src/shop/prices.py")
    assert (got["module"], got["testFile"]) == ("shop.prices", "tests/test_prices.py")
    assert got["functions"] == [
        {
            "name": "gross",
            "signature": "gross(net: float, rate: float=0.2, *extra: int, round_to: int=2, **more: str) -> float",
            "line": 5,
            "async": False,
            "doc": "Adds tax.",
        },
        {"name": "fetch", "signature": "fetch(url)", "line": 19, "async": True, "doc": ""},
    ]


async def test_the_models_tests_are_written_and_run(call, shop, ctx, runner):
    ctx.llm.replies = [GOOD]
    got = await call("generate", module="src/shop/prices.py", functions=["gross"])
    assert (got["source"], got["reason"], got["functions"]) == ("model", None, ["gross"])
    result = got["result"]
    assert (result["runner"], result["ok"], result["passed"], result["failed"]) == (runner, False, 1, 1)
    assert "999" in result["output"]
    assert (shop / "tests/test_prices.py").read_text().startswith("import unittest\nfrom shop.prices")
    assert "gross(net: float" in ctx.llm.prompts[0]
    assert sorted(path.name for path in shop.iterdir()) == ["src", "tests"]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ("I cannot do that.", "does not compile"),
        (
            "```python\nimport unittest\nclass T(unittest.TestCase):\n    def test_a(self): pass\n```",
            "does not import shop.prices",
        ),
        ("```python\nimport shop.prices\n```", "holds no unittest.TestCase"),
        (GOOD.replace("import unittest\n", "import unittest, subprocess\n"), "uses subprocess"),
        (GOOD.replace("gross(100), 120.0", "eval('1'), 1"), "uses eval"),
        (GOOD.replace("self):", "self)"), "does not compile"),
    ],
)
async def test_an_unusable_answer_is_named_to_the_model_and_then_replaced(
    call, shop, ctx, reply, says, skill, monkeypatch
):
    monkeypatch.setattr(skill.running, "has_pytest", lambda: False)
    ctx.llm.replies = [reply, reply]
    got = await call("generate", module="src/shop/prices.py")
    assert got["source"] == "skeleton"
    assert says in got["reason"]
    assert f"was refused: {got['reason']}" in ctx.llm.prompts[1]
    assert (got["result"]["ok"], got["result"]["passed"]) == (True, 3)


async def test_a_better_second_answer_is_taken(call, shop, ctx):
    ctx.llm.replies = ["no", GOOD]
    assert (await call("generate", module="src/shop/prices.py", run=False))["source"] == "model"


async def test_a_model_that_does_not_answer(call, shop, ctx):
    class Refusing:
        async def generate(self, _prompt):
            raise ContextError("budget spent")

    ctx.llm = Refusing()
    got = await call("generate", module="src/shop/prices.py", run=False)
    assert got["reason"] == "the model did not answer: budget spent"


async def test_the_skeleton_notices_changes(call, shop, ctx, runner):
    first = await call("generate", module="src/shop/prices.py", useModel=False)
    assert (first["result"]["ok"], first["result"]["passed"], first["result"]["failed"]) == (True, 3, 0)
    text = (shop / "tests/test_prices.py").read_text()
    changed = MODULE.replace("def fetch(url)", "def fetch(address)").replace("1 + rate", "2 + rate")
    (shop / "src/shop/prices.py").write_text(changed)
    again = await call("generate", module="src/shop/prices.py", useModel=False, overwrite=True)
    assert (again["result"]["passed"], again["result"]["failed"]) == (2, 1)
    assert "['address']" in (shop / "tests/test_prices.py").read_text()
    assert "['url']" in text


async def test_an_endless_test_is_ended(call, shop, ctx, runner):
    ctx.llm.replies = [
        GOOD.replace("self.assertEqual(gross(100), 999)", "print('here', flush=True)\n        while True: pass")
    ]
    got = await call("generate", module="src/shop/prices.py", timeoutSeconds=1)
    assert (got["result"]["exitCode"], got["result"]["ok"]) == (None, False)
    assert "ended after 1 s" in got["result"]["output"]


async def test_a_module_at_the_top_by_dotted_name(call, ctx):
    (ctx.workspace / "tools").mkdir()
    (ctx.workspace / "tools" / "calc.py").write_text("def f(a, /, b):\n    return a\n")
    got = await call("generate", module="tools.calc", useModel=False)
    assert (got["module"], got["testFile"], got["result"]["ok"]) == ("calc", "tools/tests/test_calc.py", True)


async def test_mistakes_are_named(call, shop, ctx):
    for module, says in {
        "missing.py": "does not exist",
        "src/shop/__init__.py": "no public functions",
        "../x.py": r"'\.\.'",
        "bad-name.py": "cannot be imported",
        "broken.py": "does not parse",
    }.items():
        (ctx.workspace / "bad-name.py").write_text("def f(): pass\n")
        (ctx.workspace / "broken.py").write_text("def f(:\n")
        with pytest.raises(SkillError, match=says):
            await call("generate", module=module)
    with pytest.raises(SkillError, match="no public function 'net'; it has gross, fetch"):
        await call("generate", module="src/shop/prices.py", functions=["net"])
    with pytest.raises(SkillError, match="call it test_"):
        await call("generate", module="src/shop/prices.py", testFile="prices.py")
    await call("generate", module="src/shop/prices.py", useModel=False, run=False)
    with pytest.raises(SkillError, match="set overwrite"):
        await call("generate", module="src/shop/prices.py")
