"""Which addresses may be fetched. The egress proxy enforces the same list; here a refusal can say what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from openclaw_skill import SkillError

SCHEMES = ("http", "https")


def domains_of(ctx: Any) -> tuple[str, ...]:
    """Returns the domains of this call: those the platform signed, narrowed by config.allowedDomains if that is set."""
    signed = tuple(getattr(ctx, "allowed_domains", ()))
    wanted = tuple(ctx.config.get("allowedDomains", ()))
    if not signed:
        return wanted
    return tuple(domain for domain in wanted if matches(domain, signed)) if wanted else signed


def matches(host: str, domains: Iterable[str]) -> bool:
    """Tells whether a host is one of the domains; `*.example.com` stands for every host below example.com."""
    host = host.lower().rstrip(".")
    for domain in (name.lower().rstrip(".") for name in domains):
        if host == domain or (domain.startswith("*.") and host.endswith(domain[1:])):
            return True
    return False


def check(url: str, domains: tuple[str, ...]) -> str:
    """Returns the URL if it may be fetched, without its fragment, or raises SkillError."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        raise SkillError(f"url: {url!r} is not a URL ({error}); write https://host/path") from None
    if parts.scheme not in SCHEMES or not host:
        raise SkillError(f"url: {url!r} needs the form https://host/path; only http and https are fetched")
    if parts.username or parts.password:
        raise SkillError("url: it holds a user name or password; send an Authorization header instead")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise SkillError(f"url: {url!r} holds characters that must be percent-encoded; encode them")
    if not matches(host, domains):
        allowed = ", ".join(domains) or "none"
        raise SkillError(f"url: {host} is not among the skill's allowedDomains ({allowed}); add it to the Skill")
    return parts._replace(fragment="").geturl()
