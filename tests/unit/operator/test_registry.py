"""What kopf is asked to do, and what it is kept from doing."""

from __future__ import annotations

from typing import Any, NoReturn

import kopf

from openclaw_operator.handlers.registry import configure
from openclaw_operator.settings import load_settings


class Untouchable(dict[str, Any]):
    """Fails whoever copies it."""

    def __deepcopy__(self, _memo: object) -> NoReturn:
        raise AssertionError("a resource was copied")


def test_resources_are_not_copied_to_find_out_what_changed() -> None:
    configured = configure(load_settings({}))
    body = kopf.Body({"metadata": {"name": "ada"}, "spec": Untouchable(role="coder")})
    storage = configured.persistence.diffbase_storage
    assert storage.build(body=body) == {}
    assert storage.fetch(body=body) is None
    patch = kopf.Patch()
    storage.store(body=body, patch=patch, essence=storage.build(body=body))
    assert not patch


def test_what_is_too_old_to_be_watched_is_not_listed_again_in_a_tight_loop() -> None:
    assert configure(load_settings({})).watching.reconnect_backoff >= 1


def test_thousands_of_resources_are_not_held_parsed_at_once() -> None:
    """Every object of a list waits for a worker: they come by pages, and no worker waits for more of the same."""
    configured = configure(load_settings({}))
    assert configured.watching.chunk_size == 500
    assert configured.queueing.idle_timeout <= 0.01


def test_an_operator_that_does_not_end_is_ended() -> None:
    assert configure(load_settings({})).process.ultimate_exiting_timeout == 10


def test_a_page_without_an_answer_is_given_up_like_any_other_request() -> None:
    settings = load_settings({"OPENCLAW_OPERATOR_REQUEST_SECONDS": "7"})
    assert configure(settings).networking.request_timeout == 7
