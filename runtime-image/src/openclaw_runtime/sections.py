"""What the sections of the configuration have in common."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict

UserPath = Annotated[Path, AfterValidator(Path.expanduser)]

SECTION = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
"""Unknown keys are refused, values do not change."""
