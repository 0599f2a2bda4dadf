"""The memory of an Agent: where it is, and what becomes of what it holds."""

from __future__ import annotations

from pydantic import Field

from openclaw_operator.api.base import LocalRef, Model, cel, schema_extra


class ImportanceWeights(Model):
    """What makes a memory important, and so come first in recall: how much each signal counts, in proportion."""

    model_config = schema_extra(
        cel(
            # The default of the whole is checked before its fields have theirs.
            "!has(self.accessCount) || self.accessCount + self.recency + self.relevance + self.userFeedback > 0.0",
            "at least one signal must count: set accessCount, recency, relevance or userFeedback above 0",
        )
    )
    access_count: float = Field(0.3, ge=0, le=1, description="How often it was recalled.")
    recency: float = Field(0.25, ge=0, le=1, description="How lately it was made or recalled; halves every 7 days.")
    relevance: float = Field(
        0.25, ge=0, le=1, description="How well it matched what it was recalled for, and what its author said of it."
    )
    user_feedback: float = Field(
        0.2, ge=0, le=1, description="What users said of it: POST /api/v1/memory/<id>/feedback of the gateway."
    )
    adaptation_rate: float = Field(
        0.1,
        ge=0,
        le=1,
        description="How far one user's feedback moves the weights towards the signals that were right; 0: never. What "
        "was learned is kept until the weights here are changed.",
    )


class Summarization(Model):
    """Summaries of what the agent remembers, made in the background; recall prefers them to what they sum up."""

    enabled: bool = Field(True, description="Make summaries; each costs requests to the model, within the budget.")
    every_records: int = Field(
        50, ge=2, le=1000, description="Related records (of one kind and scope) that become one summary; they are kept."
    )
    max_tokens: int = Field(500, ge=50, le=10000, description="Most tokens of a summary.")
    model: str | None = Field(
        None,
        min_length=1,
        max_length=253,
        description="Name of the model that makes them: spec.model.name, or that of one of its candidates or "
        "fallbacks. The cheapest of these when unset.",
    )


class AgentMemory(Model):
    """What the agent remembers and where."""

    store_ref: LocalRef | None = Field(
        None, description="The MemoryStore to use; without it memory is embedded on the workspace volume."
    )
    context_tokens: int = Field(
        128000, ge=1024, le=2000000, description="Most tokens of conversation sent to the model in one request."
    )
    importance_weights: ImportanceWeights = Field(
        default_factory=ImportanceWeights, description="What makes a memory important."
    )
    summarization: Summarization = Field(
        default_factory=Summarization, description="Summaries of what the agent remembers."
    )
