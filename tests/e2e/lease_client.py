"""Runs in a gateway's pod: calls a restricted skill in two sessions, as that gateway would, and gives the pods back."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from openclaw_runtime.config import load_config
from openclaw_runtime.sandbox.executors import create_executor
from openclaw_runtime.sandbox.kube import KubeApi
from openclaw_runtime.skills.registry import SkillRegistry
from openclaw_runtime.skills.types import SkillCall


async def main() -> None:
    config = load_config(Path(os.environ["OPENCLAW_CONFIG_PATH"]))
    api = KubeApi.in_cluster(dict(os.environ))
    registry = SkillRegistry(config.claw.namespace, api, {})
    await registry.load(config.skills)
    (skill,) = registry.installed()
    executor = create_executor(config, os.environ, api=lambda: api)
    await executor.start()
    context: Any = None
    found = []
    try:
        for number, session in enumerate(("one", "one", "two", "one")):
            call = SkillCall(f"call-{number}", config.claw.name, session, skill, "mark", {}, 60.0)
            result = await executor.execute(call, context)
            found.append({"session": session, "pod": result.sandbox, **result.output})
        print(json.dumps(found), flush=True)
        # Whoever started us looks at the pods while they are leased.
        await asyncio.to_thread(input)
    finally:
        await executor.close()
        await api.close()


asyncio.run(main())
