"""Each skill in skills/ is a valid package, has what its manifest says, and asks for no more than it uses."""

import ast
import inspect
import re
import sys
from collections import defaultdict
from pathlib import Path

import jsonschema
import pytest
import yaml

from openclaw_operator.api.skill import SkillSpec
from openclaw_runtime.sandbox.archive import MAX_COMPRESSED_BYTES
from openclaw_runtime.skills.folder import SkillFolder, read_skill
from openclaw_runtime.skills.package import folder_files, pack_folder
from tests.fakes.skill_context import load_skill

ROOT = Path(__file__).parents[3] / "skills"
FOLDERS = sorted(path.parent for path in ROOT.glob("*/SKILL.md"))
EXPECTED = {
    "code-reviewer",
    "docker-builder",
    "docker-manager",
    "file-ops",
    "git-ai-helper",
    "http-fetch",
    "jira-connector",
    "k8s-operator",
    "meeting-scheduler",
    "message-router",
    "monitoring-setup",
    "quality-checker",
    "report-generator",
    "result-aggregator",
    "security-scanner",
    "shell",
    "task-manager",
    "test-generator",
    "web-search",
}
MAX_INSTRUCTIONS = 60
"""Lines of SKILL.md: it is read into a model's context."""

every_skill = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def manifest_of(folder: Path) -> SkillFolder:
    return read_skill(tuple(folder_files(folder)), folder.name)


def sources_of(folder: Path) -> dict[str, ast.Module]:
    return {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in (folder / "scripts").glob("*.py")}


def imports_of(tree: ast.Module) -> set[str]:
    """Top-level names of all imported modules."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_all_built_in_skills_are_there() -> None:
    assert {folder.name for folder in FOLDERS} == EXPECTED


@every_skill
def test_the_folder_is_a_valid_skill(folder: Path) -> None:
    skill = manifest_of(folder)
    assert skill.head.name == folder.name
    assert skill.head.license == "Apache-2.0"
    assert skill.head.description
    assert len((folder / "SKILL.md").read_text(encoding="utf-8").splitlines()) <= MAX_INSTRUCTIONS
    for action in skill.manifest.actions:
        assert action.name in skill.instructions, f"SKILL.md does not say when to use {action.name}"


@every_skill
def test_the_manifest_is_a_valid_skill_resource(folder: Path) -> None:
    resource = manifest_of(folder).resource()
    spec = SkillSpec.model_validate(resource["spec"])
    assert [action.name for action in spec.actions] == [a.name for a in manifest_of(folder).manifest.actions]
    assert len(yaml.safe_dump(resource)) < 900_000  # what etcd takes in one object, with room


@every_skill
def test_every_action_is_a_function_of_the_entrypoint_and_no_other_is_public(folder: Path) -> None:
    manifest = manifest_of(folder).manifest
    main = load_skill(folder)[Path(manifest.main_file or "").stem]
    public = {
        name
        for name, value in vars(main).items()
        if inspect.isfunction(value) and value.__module__ == main.__name__ and not name.startswith("_")
    }
    assert public == {action.name for action in manifest.actions}
    for name in public:
        parameters = list(inspect.signature(getattr(main, name), follow_wrapped=False).parameters)
        assert len(parameters) == 2  # the context and the input
        assert getattr(main, name).__doc__


@every_skill
def test_schemas_compile_and_describe_closed_objects(folder: Path) -> None:
    for action in manifest_of(folder).manifest.actions:
        assert action.description
        assert action.output_schema is not None
        for schema in (action.input_schema, action.output_schema):
            jsonschema.Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object"
        assert action.input_schema["additionalProperties"] is False
        for name, value in action.input_schema.get("properties", {}).items():
            if "default" in value:
                jsonschema.validate(value["default"], value, cls=jsonschema.Draft202012Validator)
            assert value.keys() & {"type", "enum"} or "description" in value, f"{action.name}.{name} says nothing"


@every_skill
def test_limits_are_set(folder: Path) -> None:
    manifest = manifest_of(folder).manifest
    assert manifest.rate_limit is not None
    assert all(1 <= action.timeout_seconds <= 600 for action in manifest.actions)


@every_skill
def test_permissions_are_those_the_code_uses(folder: Path) -> None:
    """Read off the code: a permission that nothing needs is too much, one that is missing fails in the sandbox."""
    trees = sources_of(folder)
    imported = set().union(*map(imports_of, trees.values()))
    text = "\n".join(ast.unparse(tree) for tree in trees.values())
    changes = r"\.(?:write_text|write_bytes|unlink|mkdir|replace_file|touch|rename)\(|\brmtree\(|os\.replace\("
    uses = {
        "process:execute": "subprocess" in imported or "create_subprocess" in text,
        "network": bool(imported & {"urllib.request", "http.client", "socket", "ssl"}),
        "filesystem:read": "ctx.workspace" in text,
        "filesystem:write": bool(re.search(changes, text)) or folder.name == "shell",
    }
    declared = set(manifest_of(folder).manifest.permissions)
    assert ("process:execute" in declared) == uses["process:execute"]
    assert bool(declared & {"network:internal", "network:external"}) == uses["network"]
    assert ("filesystem:read" in declared) == uses["filesystem:read"]
    assert ("filesystem:write" in declared) == (uses["filesystem:write"] or folder.name == "git-ai-helper")
    assert bool(manifest_of(folder).manifest.allowed_domains) == ("network:external" in declared)


@every_skill
def test_only_the_standard_library_is_imported(folder: Path) -> None:
    trees = sources_of(folder)
    for name, tree in trees.items():
        assert name not in sys.stdlib_module_names, f"{name}.py hides a module of the standard library"
        foreign = {
            module
            for module in imports_of(tree)
            if module.split(".")[0] not in sys.stdlib_module_names
            and module not in trees
            and module != "openclaw_skill"
        }
        assert not foreign


@every_skill
def test_secrets_of_the_manifest_are_those_the_code_reads(folder: Path) -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (folder / "scripts").glob("*.py"))
    declared = [secret.name for secret in manifest_of(folder).manifest.secrets]
    assert all(f'"{name}"' in text for name in declared)
    assert bool(declared) == ("ctx.secrets" in text)


@every_skill
def test_packing_is_deterministic_and_leaves_tests_out(folder: Path, tmp_path: Path) -> None:
    first = pack_folder(folder)
    copy = tmp_path / folder.name
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and "__pycache__" not in path.parts:
            target = copy / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o600)
    second = pack_folder(copy)
    assert (first.digest, first.data) == (second.digest, second.data)
    assert len(first.data) < MAX_COMPRESSED_BYTES
    names = {file.path for file in first.files()}
    assert {"SKILL.md", "skill.yaml", "scripts/main.py"} <= names
    assert not any(name.startswith("tests/") or "__pycache__" in name for name in names)
    (copy / "SKILL.md").write_text("changed", encoding="utf-8")
    assert pack_folder(copy).digest != first.digest


def test_copies_of_a_shared_module_are_the_same() -> None:
    """A package holds all it runs, so some modules are in several skills; a fix must reach every copy."""
    copies: dict[str, dict[bytes, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(ROOT.glob("*/scripts/*.py")):
        head = path.read_text(encoding="utf-8").split('"""')[1]
        if "copy of" in head or "copy of it" in head:
            copies[path.name][path.read_bytes()].append(path.parts[-3])
    assert {
        "workspace.py",
        "atomic.py",
        "leaks.py",
        "reply.py",
        "gitrepo.py",
        "minyaml.py",
        "ociregistry.py",
    } <= copies.keys()
    for name, versions in copies.items():
        assert len(versions) == 1, f"{name} differs: {list(versions.values())}"
