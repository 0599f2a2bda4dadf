"""What a failed run of the model means for the one who asked."""

from pydantic_ai.exceptions import (
    AgentRunError,
    ContentFilterError,
    FallbackExceptionGroup,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelTimeoutError,
    UsageLimitExceeded,
)

from openclaw_runtime.errors import ModelError, OpenClawError, TurnError

_LONGEST = 300


ModelFailure = (AgentRunError, FallbackExceptionGroup)
"""What a request to the agent's models may raise."""

_REASONS: tuple[tuple[type[AgentRunError], str], ...] = (
    (ModelQuotaExceededError, "quota"),
    (ModelRateLimitError, "rate_limit"),
    (ModelTimeoutError, "timeout"),
    (ModelConnectionError, "connection"),
    (ModelAuthenticationError, "authentication"),
    (ModelNotFoundError, "not_found"),
    (ModelContextWindowExceededError, "context_length"),
    (ModelRequestRejectedError, "rejected"),
    (ContentFilterError, "content_filter"),
    (ModelAPIError, "server"),
)


def reason(error: AgentRunError) -> str:
    """Returns why a model failed as one word of a short list, fit for a label."""
    return next((word for kind, word in _REASONS if isinstance(error, kind)), "bad_answer")


def told(error: "AgentRunError | FallbackExceptionGroup") -> str:
    """Returns the whole story on one line, for the log."""
    return "; ".join(map(str, error.exceptions)) if isinstance(error, FallbackExceptionGroup) else str(error)


def explain(error: "AgentRunError | FallbackExceptionGroup", *, provider: str) -> OpenClawError:
    """Returns the error to show: its message is safe (no key, no address), its status fits HTTP."""
    if isinstance(error, FallbackExceptionGroup):
        return _explain_all(error)
    if isinstance(error, UsageLimitExceeded):
        return TurnError(f"a limit of the turn was reached: {error}", status=422, code="limit_reached")
    if isinstance(error, ContentFilterError):
        return ModelError("the model provider's content filter stopped the answer", status=400, code="content_filter")
    if isinstance(error, ModelAPIError):
        return _explain_api(error, provider)
    return ModelError(f"the model gave an answer that cannot be used: {_short(str(error))}", code="bad_model_answer")


def _explain_all(group: FallbackExceptionGroup) -> OpenClawError:
    """Every model failed: what each said, with their status where all have the same."""
    errors = [
        explain(error, provider=f"the provider of {getattr(error, 'model_name', 'a model')}")
        for error in group.exceptions
        if isinstance(error, AgentRunError)
    ]
    if len(errors) == 1:
        return errors[0]
    kinds = {(error.status, error.code) for error in errors if isinstance(error, ModelError)}
    status, code = kinds.pop() if len(kinds) == 1 else (502, "every_model_failed")
    told = "; ".join(str(error) for error in errors)
    return ModelError(f"none of {len(errors)} models answered: {told}", status=status, code=code)


def _explain_api(error: ModelAPIError, provider: str) -> ModelError:
    name = error.model_name
    if isinstance(error, ModelAuthenticationError):
        return ModelError(f"{provider} refused the credentials; check the provider's key", code="model_authentication")
    if isinstance(error, ModelNotFoundError):
        return ModelError(f"{provider} has no model {name}; check claw.model", code="model_not_found_upstream")
    if isinstance(error, ModelContextWindowExceededError):
        return ModelError(
            f"the conversation is too long for {name}; start a new session", status=400, code="context_length_exceeded"
        )
    if isinstance(error, ModelQuotaExceededError):
        return ModelError(f"the quota at {provider} is used up", status=429, code="insufficient_quota")
    if isinstance(error, ModelRateLimitError):
        return ModelError(f"{provider} limits the rate of requests; try again", status=429, code="rate_limit_exceeded")
    if isinstance(error, ModelTimeoutError):
        return ModelError(f"{provider} did not answer in time", status=504, code="model_timeout")
    if isinstance(error, ModelHTTPError):
        return ModelError(f"{provider} answered {error.status_code} for {name}: {_short(_detail(error))}")
    return ModelError(f"{provider} could not be reached", code="model_unreachable")


def _detail(error: ModelHTTPError) -> str:
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        return str(inner.get("message", "no details") if isinstance(inner, dict) else inner)
    return str(body or "no details")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
