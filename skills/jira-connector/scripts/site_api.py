"""Requests to a Jira site, and what the configuration allows there."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import adf

from openclaw_skill import SkillError

TIMEOUT_SECONDS = 30.0
MAX_ANSWER = 16 * 1024 * 1024


@dataclass(frozen=True)
class Jira:
    """A site and the one who asks it. `projects` are the only ones allowed; none means all."""

    url: str
    cloud: bool
    authorization: str
    projects: tuple[str, ...]
    writes: bool

    def allowed(self, key: str, field: str = "key") -> str:
        """Returns an issue's key if its project is allowed. Raises SkillError."""
        project = key.rpartition("-")[0]
        if self.projects and project not in self.projects:
            raise SkillError(f"{field}: project {project} is none of config.projects ({', '.join(self.projects)})")
        return key

    def issue(self, key: str, query: str = "fields=project", field: str = "key") -> dict[str, Any]:
        """Returns an issue of an allowed project. Raises SkillError.

        Jira answers for the old key of an issue that was moved, so what counts is the key it has now.
        """
        answer = self.call("GET", f"/issue/{self.allowed(key, field)}?{query}")
        self.allowed(str(answer.get("key", "")), field)
        return answer

    def text(self, plain: str) -> Any:
        """Returns a text as this Jira takes it: a document in Cloud, the text itself elsewhere."""
        return adf.from_text(plain) if self.cloud else plain

    def write(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Like `call`, for what changes something. Raises SkillError unless that is allowed."""
        if not self.writes:
            raise SkillError("config.allowWrites: it is not true, so nothing is changed; ask who configures the agent")
        return self.call(method, path, body)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns the JSON object Jira answered; an empty answer is an empty one. Raises SkillError."""
        address = f"{self.url}/rest/api/{3 if self.cloud else 2}{path}"
        headers = {
            "User-Agent": "OpenClaw-Skill",
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Authorization": self.authorization,
        }
        data = None if body is None else json.dumps(body).encode("utf-8")
        request = urllib.request.Request(address, data=data, headers=headers, method=method)  # noqa: S310 (https, see connect)
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS) as response:
                answer = response.read(MAX_ANSWER)
            value = json.loads(answer) if answer else {}
        except HTTPError as error:
            raise SkillError(_refusal(error)) from None
        except URLError as error:
            raise SkillError(f"Jira is not reachable ({error.reason}); is its host in allowedDomains?") from None
        except ValueError:
            raise SkillError("Jira's answer is not JSON; does secrets.JIRA_URL name the site itself?") from None
        except (OSError, http.client.HTTPException) as error:
            raise SkillError(
                f"Jira did not answer ({type(error).__name__}); it may have done what it was asked"
            ) from None
        if not isinstance(value, dict):
            raise SkillError("Jira's answer is not a JSON object; does secrets.JIRA_URL name the site itself?")
        return value


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """The token goes nowhere but to the site."""


def connect(ctx: Any) -> Jira:
    """Returns the site of a call. Raises SkillError that names what is missing or wrong."""
    url = ctx.secrets.get("JIRA_URL", "").rstrip("/")
    parts = urlsplit(url)
    if not parts.hostname or (parts.scheme != "https" and parts.hostname != "127.0.0.1"):
        raise SkillError("secrets.JIRA_URL: it must be the site's address, like https://your-site.atlassian.net")
    deployment = ctx.config.get("deployment", "cloud")
    if deployment not in {"cloud", "server"}:
        raise SkillError(f"config.deployment: {deployment!r} is neither cloud nor server")
    projects = ctx.config.get("projects", [])
    if not isinstance(projects, list) or not all(isinstance(key, str) and key.isidentifier() for key in projects):
        raise SkillError(f"config.projects: {projects!r} must be a list of project keys like OPS")
    token, email = ctx.secrets.get("JIRA_TOKEN", ""), ctx.secrets.get("JIRA_EMAIL", "")
    cloud = deployment == "cloud"
    if not token or (cloud and not email):
        raise SkillError(f"secrets.JIRA_{'EMAIL' if token else 'TOKEN'}: it is missing; add it to the Secret")
    basic = base64.b64encode(f"{email}:{token}".encode()).decode("ascii")
    authorization = f"Basic {basic}" if cloud else f"Bearer {token}"
    return Jira(url, cloud, authorization, tuple(projects), ctx.config.get("allowWrites") is True)


def _refusal(error: HTTPError) -> str:
    """What Jira says is wrong, with the names of the fields it says it of."""
    try:
        value = json.loads(error.read(MAX_ANSWER))
        messages = [*value.get("errorMessages", []), *(f"{k}: {v}" for k, v in value.get("errors", {}).items())]
    except (ValueError, AttributeError, TypeError, OSError, http.client.HTTPException):
        messages = []
    wait = error.headers.get("Retry-After")
    hints = {
        401: "check secrets.JIRA_EMAIL and JIRA_TOKEN",
        403: "the token's account lacks the right",
        404: "it does not exist, or the token's account may not see it",
        429: f"try again in {wait} s" if wait else "try again later",
    }
    told = "; ".join(map(str, messages)) or hints.get(error.code, "no reason given")
    return f"Jira answered HTTP {error.code}: {told}"
