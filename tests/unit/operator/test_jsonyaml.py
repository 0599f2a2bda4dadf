"""Whatever text a user writes, an apply and a mounted file hold it."""

from __future__ import annotations

import json

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openclaw_operator.jsonyaml import dumps


@given(st.text())
@example("\U0001f600 \u2028 \u2029 \x85 \x7f \ufeff \uffff \\ud83d\\ude00")
@settings(deadline=None)
def test_json_and_yaml_read_the_same(text: str) -> None:
    for indent in (None, 2):
        written = dumps({text: [text]}, indent=indent)
        assert json.loads(written) == {text: [text]}
        assert yaml.safe_load(dumps([text], indent=indent)) == [text]
