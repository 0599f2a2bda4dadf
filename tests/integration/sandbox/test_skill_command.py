"""`openclaw skill` in each language: what it makes passes its own checks, and what is missing or wrong is one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from openclaw_operator.api.skill import SkillSpec
from openclaw_runtime.skills import cli
from openclaw_runtime.skills.errors import SkillsError
from openclaw_runtime.skills.folder import read_skill
from openclaw_runtime.skills.package import folder_files, pack_folder
from openclaw_runtime.skills.scaffold import ScaffoldRuntime, new_skill
from tests.integration.runtime.test_mcp import write_example

EXAMPLES = sorted(path.parent for path in (Path(__file__).parents[3] / "examples/skills").glob("*/SKILL.md"))
READS = """def greet(ctx, input):
    return {"text": (ctx.workspace / input["name"]).read_text()}
"""
EVERY_RUNTIME = pytest.mark.parametrize("runtime", ["python", "node", "bash"])


def openclaw(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def written(folder: Path, runtime: ScaffoldRuntime = "python", **changes: Any) -> Path:
    """A new skill whose skill.yaml is changed."""
    files = dict(new_skill("hello", runtime))
    files["skill.yaml"] = yaml.safe_dump(yaml.safe_load(files["skill.yaml"]) | changes)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@EVERY_RUNTIME
def test_a_new_skill_is_valid_runs_and_passes_its_tests(tmp_path: Path, runtime: str) -> None:
    folder = tmp_path / "hello"
    assert openclaw("init", "hello", "--directory", folder, "--runtime", runtime).exit_code == 0
    valid = openclaw("validate", folder)
    assert (valid.exit_code, valid.stderr) == (0, "")
    assert pack_folder(folder).digest in valid.stdout
    assert json.loads(openclaw("run", folder, "greet", "--input", '{"name": "Ada"}').stdout) == {"text": "Hello, Ada!"}
    assert openclaw("test", folder).exit_code == 0


def test_a_workspace_is_found_from_where_the_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox is somewhere else: what it mounts and where it works has to be named from the root."""
    folder = written(tmp_path / "hello", permissions=["filesystem:read"])
    (folder / "scripts/main.py").write_text(READS)
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws/note").write_text("of the user")
    monkeypatch.chdir(tmp_path)
    ran = openclaw("run", folder, "greet", "--input", '{"name": "note"}', "--workspace", "ws")
    assert json.loads(ran.stdout) == {"text": "of the user"}, ran.exception


@EVERY_RUNTIME
def test_tests_that_fail_fail_the_command(tmp_path: Path, runtime: ScaffoldRuntime) -> None:
    folder = written(tmp_path / "hello", runtime)
    for code in (folder / "scripts").iterdir():
        code.write_text(code.read_text().replace("Hello, ", "Bye, "))
    assert openclaw("test", folder).exit_code == 1


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_the_examples_are_valid_and_pass_their_tests(folder: Path) -> None:
    valid = openclaw("validate", folder)
    assert (valid.exit_code, valid.stderr) == (0, "")
    assert openclaw("test", folder).exit_code == 0
    skill = read_skill(tuple(folder_files(folder)), folder.name)
    assert skill.head.name == folder.name
    spec = SkillSpec.model_validate(skill.resource()["spec"])
    assert [action.name for action in spec.actions] == [action.name for action in skill.manifest.actions]


def test_an_mcp_server_is_asked_for_its_tools(tmp_path: Path) -> None:
    folder = write_example(tmp_path / "unit-converter")
    tool = "  convert(value, from, to)  Converts a value from one unit to another."
    valid = openclaw("validate", folder)
    assert "is valid: 3 files, actions convert" in valid.stdout
    assert valid.stdout.splitlines()[2:] == [tool]
    assert openclaw("run", folder).stdout.splitlines() == [tool]
    ran = openclaw("run", folder, "convert", "--input", '{"value": 1, "from": "km", "to": "m"}')
    assert json.loads(ran.stdout) == "1000 m"
    assert "has no dance; it has convert" in str(openclaw("run", folder, "dance").exception)
    (folder / "server.py").write_text("raise SystemExit(3)\n")
    assert isinstance(openclaw("validate", folder).exception, SkillsError)


def test_a_server_that_cannot_be_asked_from_here_is_a_warning(tmp_path: Path) -> None:
    folder = written(tmp_path / "hello", secrets=[{"name": "TRACKER_TOKEN"}])
    manifest = yaml.safe_load((folder / "skill.yaml").read_text())
    del manifest["actions"]
    manifest |= {"permissions": ["network:internal"], "allowedDomains": ["127.0.0.1:9"]}
    server = {"url": "http://127.0.0.1:9/mcp", "headers": {"Authorization": "Bearer ${TRACKER_TOKEN}"}}
    (folder / "skill.yaml").write_text(yaml.safe_dump(manifest | {"mcp": server}))
    valid = openclaw("validate", folder)
    assert valid.exit_code == 0
    first, second = valid.stderr.splitlines()
    assert first == "warning: secrets: TRACKER_TOKEN not in the environment"
    assert second.startswith("warning: the tools are not known: the MCP server 127.0.0.1:9 cannot be used")


def test_a_network_permission_without_domains_is_a_warning(tmp_path: Path) -> None:
    folder = written(tmp_path / "hello", permissions=["network:external"])
    line = "allowedDomains: empty, so network:external reaches nothing in a cluster; name the hosts it needs"
    assert openclaw("validate", folder).stderr == f"warning: {line}\n"
    folder = written(tmp_path / "hello", permissions=["network:external"], allowedDomains=["example.org"])
    assert openclaw("validate", folder).stderr == ""


@pytest.mark.parametrize(
    ("runtime", "code", "line"),
    [
        ("node", "export async function greet( {\n", "scripts/main.mjs: not node: SyntaxError"),
        ("bash", "greet() {\n", "scripts/main.sh: not bash: "),
    ],
)
def test_code_that_does_not_parse_is_one_line(tmp_path: Path, runtime: ScaffoldRuntime, code: str, line: str) -> None:
    folder = written(tmp_path / "hello", runtime)
    next((folder / "scripts").iterdir()).write_text(code)
    said = str(openclaw("validate", folder).exception)
    assert line in said
    assert len(said.splitlines()) == 1


def test_without_node_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path / "hello", "node")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install Node.js 20 or newer" in str(openclaw("test", folder).exception)
    assert "install Node.js 20 or newer" in str(
        openclaw("run", folder, "greet", "--input", '{"name": "Ada"}').exception
    )
    valid = openclaw("validate", folder)
    assert (valid.exit_code, "its syntax is not checked" in valid.stderr) == (0, True)


def test_a_skill_without_tests_is_told_which_files_count(tmp_path: Path) -> None:
    folder = written(tmp_path / "hello")
    (folder / "tests/test_main.py").rename(folder / "tests/main.py")
    assert "holds no tests; put some there, as test_*.py" in str(openclaw("test", folder).exception)
