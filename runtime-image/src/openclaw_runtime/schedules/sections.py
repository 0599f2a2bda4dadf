"""The section of the configuration that says what an agent does at set times."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from openclaw_runtime.schedules.cron import check_cron, check_time_zone
from openclaw_runtime.sections import Section


class ScheduledCall(Section):
    """A skill call that no model has to choose: `name` is a skill, `input` what its action is given."""

    name: str = Field(min_length=1, max_length=253)
    action: str = Field(min_length=1)
    input: dict[str, Any] = Field(default_factory=dict)


class Schedule(Section):
    """A prompt or a skill call at set times; the words are those of a Kubernetes CronJob."""

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
    schedule: Annotated[str, AfterValidator(check_cron)]
    time_zone: Annotated[str, AfterValidator(check_time_zone)] = "Etc/UTC"
    prompt: str | None = Field(default=None, min_length=1)
    skill: ScheduledCall | None = None
    suspend: bool = False
    starting_deadline_seconds: int | None = Field(default=None, ge=1)
    concurrency_policy: Literal["Allow", "Forbid"] = "Allow"

    @model_validator(mode="after")
    def _one_thing(self) -> "Schedule":
        if (self.prompt is None) == (self.skill is None):
            raise ValueError("set exactly one of prompt and skill")
        return self


def names_once(schedules: list[Schedule]) -> list[Schedule]:
    """Returns the schedules. Raises ValueError when two have the same name."""
    names = [item.name for item in schedules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} named twice; give each schedule a name of its own")
    return schedules
