"""What a remote MCP server asks the user of a call: while it is asked, the time limit of the call stands still.

Servers ask in two ways: with a request of their own in the middle of a call, or, from the protocol of 2026-07-28 on,
with a result that says what is missing, after which the call is made again with the answers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from openclaw_runtime.errors import OpenClawError
from openclaw_runtime.sandbox.elicitation import elicit
from openclaw_runtime.sandbox.mcp import ToolError
from openclaw_runtime.skills.types import CallContext
from openclaw_runtime.timelimit import TimeLimit

if TYPE_CHECKING:
    from mcp import types

ROUNDS: Final = 20
"""How often a call is made again with answers: as many questions as it may ask."""
_PAUSE_SECONDS: Final = 0.25
"""Before a call that is made again without any."""

Send = Callable[["dict[str, types.InputResponse] | None", "str | None"], "Awaitable[types.Result]"]
"""Makes the call, with the answers and the state of the round before."""


class Asked:
    """Asks the user of one call."""

    def __init__(self, context: CallContext, limit: TimeLimit) -> None:
        self._context = context
        self._limit = limit

    async def answer(self, context: Any, params: "types.ElicitRequestParams") -> "types.ElicitResult":
        """Returns the answer to a form: the SDK's `ElicitationFnT`."""
        from mcp import types

        del context
        try:
            found = await elicit(params.model_dump(mode="json", by_alias=True, exclude_none=True), self._ask)
        except OpenClawError as error:
            # Nobody is there to ask, or has answered: the server may do without.
            await self._context.log("warning", str(error), {})
            found = {"action": "cancel"}
        return types.ElicitResult.model_validate(found)

    async def rounds(self, send: Send) -> "types.Result":
        """Makes a call, again with the answers for as long as its result asks for some. Raises `ToolError`."""
        from mcp import types

        result = await send(None, None)
        for _ in range(ROUNDS):
            if not isinstance(result, types.InputRequiredResult):
                return result
            if not result.input_requests:
                await asyncio.sleep(_PAUSE_SECONDS)
            answers: dict[str, types.InputResponse] = {}
            for name, request in (result.input_requests or {}).items():
                if not isinstance(request, types.ElicitRequest):
                    raise ToolError(f"the MCP server asks for {request.method}, which is not offered")
                answers[name] = await self.answer(None, request.params)
            result = await send(answers or None, result.request_state)
        if isinstance(result, types.InputRequiredResult):
            raise ToolError(f"the MCP server asked for more after {ROUNDS} rounds")
        return result

    async def _ask(self, question: str) -> str:
        with self._limit.paused():
            return await self._context.ask(question)
