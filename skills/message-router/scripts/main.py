"""message-router: who a message is for, and bringing it there."""

from __future__ import annotations

import asyncio
from typing import Any

import choice
import routing
import webhook
from reply import ReplyError

from openclaw_skill import SkillError

TIMEOUT_SECONDS = 20.0


async def route(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Says who a message is for; sends nothing."""
    table = routing.table_of(ctx.config)
    matched = table.match(routing.Message(args["text"], args.get("from", ""), frozenset(args.get("tags", ()))))
    if matched:
        targets = list(dict.fromkeys(target for rule in matched for target in rule.to))
        return {"targets": targets, "by": "rules", "rules": [rule.name for rule in matched]}
    if args.get("classify", False):
        return {"targets": [await _chosen(ctx, table, args["text"])], "by": "model", "rules": []}
    return {"targets": list(table.default), "by": "default", "rules": []}


async def send(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Delivers a text to one target."""
    table = routing.table_of(ctx.config)
    target = table.target(args["to"])
    address = webhook.address_of(ctx.secrets.get("WEBHOOKS", ""), args["to"])
    body = webhook.body_of(target.type, args["text"], args.get("title", ""))
    await asyncio.to_thread(webhook.post, address, body, args["to"], TIMEOUT_SECONDS)
    ctx.logger.info("sent %d characters to %s", len(args["text"]), args["to"])
    return {"to": args["to"], "type": target.type}


async def forward(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Routes a message and delivers it to each of its targets."""
    routed = await route(ctx, args)
    if not routed["targets"]:
        raise SkillError("text: no rule matches and config.default names no target; add one or the other")
    title = f"From {args['from']}" if args.get("from") else ""
    deliveries = []
    for target in routed["targets"]:
        given = {"to": target, "text": args["text"], **({"title": title} if title else {})}
        try:
            await send(ctx, given)
            error = None
        except SkillError as failure:
            error = str(failure)
        deliveries.append({"to": target, "ok": error is None, "error": error})
    return {**routed, "deliveries": deliveries}


async def _chosen(ctx: Any, table: routing.Table, text: str) -> str:
    complaint: str | None = None
    for _ in range(choice.ATTEMPTS):
        try:
            return choice.read(await ctx.llm.generate(choice.prompt(text, table.targets, complaint)), table.targets)
        except ReplyError as error:
            complaint = str(error)
    raise SkillError(f"text: the model's choice is not usable ({complaint}); add a rule for such messages")
