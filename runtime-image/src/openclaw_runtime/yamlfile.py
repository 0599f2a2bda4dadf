"""Reads a YAML file of sections. What is wrong is told in one line per problem: path, value, what is allowed."""

import difflib
import re
from pathlib import Path
from typing import TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from openclaw_runtime.errors import ConfigError, ConfigProblem
from openclaw_runtime.sections import Section

SectionT = TypeVar("SectionT", bound=Section)

_MAX_SHOWN = 60
_URL_PASSWORD = re.compile(r"(?<=:)[^:@/\s]+(?=@)")


def load(model: type[SectionT], path: Path) -> SectionT:
    """Reads a file. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise ConfigError(str(path), [ConfigProblem("", f"cannot be read: {reason}")]) from None
    return parse(model, text, str(path))


def parse(model: type[SectionT], text: str, source: str) -> SectionT:
    """Reads YAML text. Raises `ConfigError`; `source` is named in its message."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        detail = getattr(error, "problem", None) or "cannot be read"
        raise ConfigError(source, [ConfigProblem(where, f"not valid YAML: {detail}")]) from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(source, [ConfigProblem("", "must be a mapping of sections, like claw: and memory:")])
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(source, [_problem(detail, data, model) for detail in error.errors()]) from None


def _shown(value: object) -> str:
    text = _URL_PASSWORD.sub("***", repr(value))
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def _value_at(data: object, location: tuple[int | str, ...]) -> object:
    for part in location:
        try:
            data = data[part]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _fields_at(location: tuple[int | str, ...], model: type[BaseModel]) -> list[str]:
    """Returns the keys allowed in the section that `location` (a path ending in the unknown key) lies in."""
    for part in location[:-1]:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return sorted(model.model_fields)


def _problem(error: ErrorDetails, data: object, model: type[BaseModel]) -> ConfigProblem:
    location = tuple(error["loc"])
    path = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        allowed = _fields_at(location, model)
        near = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return ConfigProblem(path, f"unknown key; {hint}allowed here: {', '.join(allowed)}")
    if error["type"] == "missing":
        return ConfigProblem(path, "is missing and has no default")
    if error["type"] == "value_error":
        return ConfigProblem(path, error["msg"].removeprefix("Value error, "))
    value = _shown(_value_at(data, location))
    if error["type"] == "literal_error":
        expected = str(error["ctx"]["expected"]).replace(" or ", ", ")
        return ConfigProblem(path, f"{value} is not allowed; allowed: {expected}")
    return ConfigProblem(path, f"{value} is not allowed; {error['msg'][:1].lower()}{error['msg'][1:]}")
