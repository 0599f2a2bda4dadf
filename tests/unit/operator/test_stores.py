"""Addresses of the servers a gateway reaches."""

from __future__ import annotations

import pytest

from openclaw_operator.errors import SpecError
from openclaw_operator.resources import stores


def test_ports_of_addresses() -> None:
    urls = (
        "http://llm:8000/v1",
        "https://a.example",
        None,
        "rediss://c/0",
        "postgresql://me@db/x",
        "http://[fd00::1]:81",
    )
    assert stores.ports(urls) == [81, 443, 5432, 6379, 8000]


@pytest.mark.parametrize("url", ["http://llm:70000/v1", "http://llm:abc", "http://[fd00::1"])
def test_an_address_nobody_can_parse_is_the_users_to_correct(url: str) -> None:
    with pytest.raises(SpecError, match="correct it") as refused:
        stores.ports((url,))
    assert refused.value.reason == "InvalidURL"
