"""What can be wrong with a skill before it runs. One branch of the runtime's tree; `str()` is one clear line."""

from collections.abc import Sequence

from openclaw_runtime.errors import OpenClawError


class SkillsError(OpenClawError):
    """Base: something about a skill, not about the call's sandbox."""


class ManifestError(SkillsError):
    """A skill's folder or its files cannot be used. `problems` has a line for each thing that is wrong."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


class PackageUnavailableError(SkillsError):
    """A skill's package cannot be read, or is not what its digest says."""


class CallRefusedError(SkillsError):
    """A check before the call refused it. `reason` is one CamelCase word, `policy` names the check."""

    def __init__(self, policy: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.policy = policy
        self.reason = reason
