"""Which models can be shown images."""

import re
from typing import Final

from openclaw_runtime.models.sections import Endpoint

_SEEING: Final = re.compile(
    r"gpt-4(?:o|\.1|\.5|-turbo)|gpt-[5-9]|\bo1(?!-mini|-preview)|\bo3(?!-mini)|\bo4|claude-(?!2|instant)|gemini|gemma-?3"
    r"|llama-?4|llava|pixtral|vision|maverick|scout|minicpm-v|moondream|internvl|qwen[\d.]*-?vl|\d-vl\b"
)
"""By name. A model that is not known is told of images and not shown them: one that cannot see refuses the request."""


def can_see(endpoint: Endpoint) -> bool:
    """Returns whether a model can be shown images: as its configuration says, else by its name."""
    if endpoint.vision is not None:
        return endpoint.vision
    return _SEEING.search(endpoint.model.lower()) is not None
