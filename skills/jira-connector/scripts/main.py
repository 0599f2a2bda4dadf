"""jira-connector: issues of a Jira site."""

from __future__ import annotations

from typing import Any

import adf
import issues
import jql
import site_api

from openclaw_skill import SkillError

FIELDS = ("summary", "status", "issuetype", "priority", "assignee", "labels", "updated")


def search(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Finds issues by JQL."""
    jira = site_api.connect(ctx)
    limit = args.get("limit", 25)
    question = jql.within(args["jql"], jira.projects)
    body = {"jql": question, "maxResults": limit, "fields": list(FIELDS)}
    answer = jira.call("POST", "/search/jql" if jira.cloud else "/search", body)
    found = answer.get("issues", [])
    more = not answer.get("isLast", True) if jira.cloud else answer.get("total", 0) > len(found)
    return {"issues": [issues.shown(each, jira.url) for each in found], "more": more}


def get(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Reads one issue with its description and latest comments."""
    jira = site_api.connect(ctx)
    fields = ",".join((*FIELDS, "description"))
    answer = jira.issue(args["key"], f"fields={fields}&expand=transitions")
    key = answer["key"]
    count = args.get("comments", 10)
    said = jira.call("GET", f"/issue/{key}/comment?orderBy=-created&maxResults={count}") if count else {}
    return {
        "issue": issues.shown(answer, jira.url),
        "description": adf.to_text(answer["fields"].get("description")),
        "comments": [issues.comment(each) for each in said.get("comments", [])],
        "transitions": [each["name"] for each in answer.get("transitions", [])],
    }


def create(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Creates an issue."""
    jira = site_api.connect(ctx)
    jira.allowed(f"{args['project']}-0", "project")
    fields: dict[str, Any] = {
        "project": {"key": args["project"]},
        "issuetype": {"name": args["type"]},
        "summary": args["summary"],
    }
    if "description" in args:
        fields["description"] = jira.text(args["description"])
    if args.get("labels"):
        fields["labels"] = args["labels"]
    if "parent" in args:
        fields["parent"] = {"key": jira.issue(args["parent"], field="parent")["key"]}
    if args.get("dryRun", False):
        return {"key": None, "url": None, "sent": fields}
    made = jira.write("POST", "/issue", {"fields": fields})
    return {"key": made["key"], "url": issues.url_of(jira.url, made["key"]), "sent": fields}


def comment(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Adds a comment to an issue."""
    jira = site_api.connect(ctx)
    key = jira.issue(args["key"])["key"]
    jira.write("POST", f"/issue/{key}/comment", {"body": jira.text(args["text"])})
    return {"key": key, "url": issues.url_of(jira.url, key)}


def transition(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Moves an issue to another state."""
    jira = site_api.connect(ctx)
    key, wanted = jira.issue(args["key"])["key"], args["to"].casefold()
    known = jira.call("GET", f"/issue/{key}/transitions").get("transitions", [])
    for name in ("name", "to"):
        for each in known:
            label = each["to"]["name"] if name == "to" else each["name"]
            if label.casefold() == wanted:
                jira.write("POST", f"/issue/{key}/transitions", {"transition": {"id": each["id"]}})
                return {"key": key, "url": issues.url_of(jira.url, key), "status": each["to"]["name"]}
    ways = ", ".join(f"{each['name']} (to {each['to']['name']})" for each in known) or "none"
    raise SkillError(f"to: {args['to']!r} is not possible for {key} now; possible: {ways}")
