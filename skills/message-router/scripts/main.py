"""message-router: who a message is for, and bringing it there."""

from __future__ import annotations

import asyncio
from typing import Any

import choice
import routing
import webhook
from reply import ReplyError, ask

from openclaw_skill import SkillError

TIMEOUT_SECONDS = 20.0


async def route(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Says who a message is for; sends nothing."""
    return await _routed(ctx, routing.table_of(ctx.config), args)


async def send(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Delivers a text to one target."""
    return await _deliver(ctx, routing.table_of(ctx.config), args["to"], args["text"], args.get("title", ""))


async def forward(ctx: Any, args: dict[str, Any]) -> dict[str, Any]:
    """Routes a message and delivers it to each of its targets."""
    table = routing.table_of(ctx.config)
    routed = await _routed(ctx, table, args)
    if not routed["targets"]:
        raise SkillError("text: no rule matches and config.default names no target; add one or the other")
    title = f"From {args['from']}" if args.get("from") else ""
    deliveries = []
    for target in routed["targets"]:
        try:
            await _deliver(ctx, table, target, args["text"], title)
            error = None
        except SkillError as failure:
            error = str(failure)
        deliveries.append({"to": target, "ok": error is None, "error": error})
    return {**routed, "deliveries": deliveries}


async def _routed(ctx: Any, table: routing.Table, args: dict[str, Any]) -> dict[str, Any]:
    matched = table.match(routing.Message(args["text"], args.get("from", ""), frozenset(args.get("tags", ()))))
    if matched:
        targets = list(dict.fromkeys(target for rule in matched for target in rule.to))
        return {"targets": targets, "by": "rules", "rules": [rule.name for rule in matched]}
    if args.get("classify", False):
        return {"targets": [await _chosen(ctx, table, args["text"])], "by": "model", "rules": []}
    return {"targets": list(table.default), "by": "default", "rules": []}


async def _deliver(ctx: Any, table: routing.Table, name: str, text: str, title: str) -> dict[str, Any]:
    target = table.target(name)
    address = webhook.address_of(ctx.secrets.get("WEBHOOKS", ""), name)
    body = webhook.body_of(target.type, text, title)
    await asyncio.to_thread(webhook.post, address, body, name, TIMEOUT_SECONDS)
    ctx.logger.info("sent %d characters to %s", len(text), name)
    return {"to": name, "type": target.type}


async def _chosen(ctx: Any, table: routing.Table, text: str) -> str:
    try:
        return await ask(
            ctx, lambda again: choice.prompt(text, table.targets, again), lambda said: choice.read(said, table.targets)
        )
    except ReplyError as error:
        raise SkillError(f"text: the model's choice is not usable ({error}); add a rule for such messages") from None
