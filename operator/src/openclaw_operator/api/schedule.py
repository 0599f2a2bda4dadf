"""Schedules of an Agent: what its gateway does at set times."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from openclaw_operator.api.base import CRON, DNS_LABEL, FreeForm, Model, Name, cel, schema_extra

DEFAULT_TIME_ZONE = "Etc/UTC"


class ScheduledCall(Model):
    """A call of a skill that no model has to choose."""

    name: Name = Field(description="Name of one of the agent's skills.")
    action: str = Field(min_length=1, max_length=63, description="The action to run.")
    input: FreeForm | None = Field(None, description="Input of the action, as its inputSchema asks; {} when unset.")


class Schedule(Model):
    """A prompt or a skill call at set times. The words are those of a Kubernetes CronJob."""

    model_config = schema_extra(
        cel("has(self.prompt) != has(self.skill)", "set exactly one of prompt and skill"),
    )
    name: str = Field(
        pattern=DNS_LABEL,
        min_length=1,
        max_length=63,
        description="Name of the schedule; its runs are in the session schedule/<name>.",
    )
    schedule: str = Field(
        pattern=CRON, max_length=128, description="When to run: five cron fields, or for example @daily."
    )
    time_zone: str = Field(
        DEFAULT_TIME_ZONE,
        min_length=1,
        max_length=64,
        description="IANA time zone of the fields, for example Europe/Riga. A time that the clocks skip is run right "
        "after, one that comes twice is run once.",
    )
    prompt: str | None = Field(
        None, min_length=1, max_length=16384, description="What the agent is asked; nobody answers its questions."
    )
    skill: ScheduledCall | None = Field(None, description="The skill call to make.")
    suspend: bool = Field(False, description="Start no runs. Those missed meanwhile are not made up.")
    starting_deadline_seconds: int | None = Field(
        None,
        ge=1,
        le=31536000,
        description="How late a run may start. Of the runs missed while no gateway was there the latest is made up, "
        "however late when unset.",
    )
    concurrency_policy: Literal["Allow", "Forbid"] = Field(
        "Allow", description="Whether a run may start while one before it still runs; with Forbid it is skipped."
    )
