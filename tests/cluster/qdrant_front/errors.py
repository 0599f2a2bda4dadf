"""Errors in Qdrant's shape: {"status": {"error": …}, "time": …} with an HTTP status."""

from __future__ import annotations


class FrontError(Exception):
    """A request that cannot be answered."""

    status = 400


class BadRequestError(FrontError):
    """The request does not fit the collection or is malformed."""


class UnsupportedError(FrontError):
    """Qdrant can do it, this front cannot."""

    status = 501

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not supported by this front, which is test equipment and not a Qdrant server")


class NotFoundError(FrontError):
    status = 404


class ConflictError(FrontError):
    status = 409


def no_collection(name: str) -> NotFoundError:
    return NotFoundError(f"Not found: Collection `{name}` doesn't exist!")
