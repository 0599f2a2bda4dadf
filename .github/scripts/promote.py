#!/usr/bin/env python3
"""What main built and staging ran becomes a release; only the standard library, gh, cosign and docker.

    promote.py check COMMIT                        fail unless main's run for the commit, staging included, succeeded
    promote.py verify REFERENCE                    fail unless that run of main signed it
    promote.py images VALUES REPOSITORY VERSION    tag the images of REPOSITORY that a chart's values (JSON) pin

Environment: GITHUB_REPOSITORY, and GH_TOKEN for gh.
"""

# ruff: noqa: T201  (its output is the job's log)
import json
import os
import subprocess
import sys
from pathlib import Path

WORKFLOW = "release.yml"
ISSUER = "https://token.actions.githubusercontent.com"


class RefusedError(Exception):
    """What is there must not be released; the message says what to do."""


def run(*command: str) -> str:
    """Returns what a program prints. Raises `subprocess.CalledProcessError`."""
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def check(repository: str, commit: str) -> None:
    """Raises RefusedError unless the workflow of main ended well for the commit; its last job is staging's."""
    wanted = ("--repo", repository, "--workflow", WORKFLOW, "--commit", commit, "--branch", "main", "--event", "push")
    found = json.loads(run("gh", "run", "list", *wanted, "--json", "conclusion,status,url"))
    if any(each["conclusion"] == "success" for each in found):
        return
    if not found:
        raise RefusedError(f"main never built {commit}; fix: push it to main, and tag it once staging runs it")
    latest = found[0]
    state = latest["conclusion"] or latest["status"]
    raise RefusedError(f"main's run for {commit} is {state}, see {latest['url']}; fix: try again once it succeeded")


def verify(repository: str, reference: str) -> None:
    """Raises `subprocess.CalledProcessError` unless main signed it."""
    identity = f"https://github.com/{repository}/.github/workflows/{WORKFLOW}@refs/heads/main"
    options = ("--certificate-oidc-issuer", ISSUER, "--certificate-identity", identity, "--output", "text")
    run("cosign", "verify", reference, *options)


def pinned(values: Path, registry: str) -> dict[str, str]:
    """Our images of a chart by repository, with their digests. Raises RefusedError where one is not pinned."""
    images = json.loads(values.read_text())["images"].values()
    ours = {each["repository"]: each["digest"] for each in images if each["repository"].startswith(f"{registry}/")}
    loose = sorted(name for name, digest in ours.items() if not digest)
    if loose or not ours:
        raise RefusedError(f"the chart of main pins no digest of {', '.join(loose) or f'any image of {registry}'}")
    return ours


def images(repository: str, values: Path, registry: str, version: str) -> None:
    """Verifies and tags them. Raises RefusedError, or `subprocess.CalledProcessError`."""
    ours = pinned(values, registry)
    for name, digest in ours.items():
        verify(repository, f"{name}@{digest}")
    for name, digest in ours.items():
        tag = f"{name}:{version}"
        # An index is copied as it is.
        run("docker", "buildx", "imagetools", "create", "--tag", tag, f"{name}@{digest}")
        tagged = run("docker", "buildx", "imagetools", "inspect", tag, "--format", "{{.Manifest.Digest}}").strip()
        if tagged != digest:
            raise RefusedError(f"{tag} is {tagged} and not {digest}, which staging ran")
        print(f"{tag} is {digest}")


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    repository = os.environ["GITHUB_REPOSITORY"]
    try:
        match arguments:
            case ["check", commit]:
                check(repository, commit)
            case ["verify", reference]:
                verify(repository, reference)
            case ["images", values, registry, version]:
                images(repository, Path(values), registry, version)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except RefusedError as error:
        print(f"::error::{error}")
        return 1
    except subprocess.CalledProcessError as error:
        print(f"::error::{' '.join(error.cmd)} ended with {error.returncode}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
