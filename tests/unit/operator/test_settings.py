from __future__ import annotations

import pytest

from openclaw_operator.errors import SettingsError
from openclaw_operator.main import main
from openclaw_operator.settings import load_settings


def test_defaults() -> None:
    settings = load_settings({"PATH": "/bin"})
    assert settings.watch_namespaces == ()
    assert settings.backups == settings.runtime_image


def test_values() -> None:
    settings = load_settings(
        {
            "OPENCLAW_OPERATOR_WATCH_NAMESPACES": "a, b,",
            "OPENCLAW_OPERATOR_LOG_LEVEL": "DEBUG",
            "OPENCLAW_OPERATOR_BACKUP_IMAGE": "b:1",
            "OPENCLAW_OPERATOR_WORKERS": "3",
            "OPENCLAW_OPERATOR_RESYNC_SECONDS": "",
        }
    )
    assert settings.watch_namespaces == ("a", "b")
    assert (settings.log_level, settings.backups, settings.workers) == ("debug", "b:1", 3)


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("OPENCLAW_OPERATOR_WORKERS", "0", "greater than or equal to 1"),
        ("OPENCLAW_OPERATOR_WORKERS", "many", "valid integer"),
        ("OPENCLAW_OPERATOR_LOG_FORMAT", "xml", "'json' or 'text'"),
        ("OPENCLAW_OPERATOR_TRUSTED_SKILLS", "demo/git, all", "should match pattern"),
        ("OPENCLAW_OPERATOR_WORKRES", "3", "known are OPENCLAW_OPERATOR_RUNTIME_IMAGE"),
    ],
)
def test_wrong_values_are_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, hint: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings({name: value})
    assert name in str(refusal.value)
    assert hint in str(refusal.value)
    monkeypatch.setenv(name, value)
    assert main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1
