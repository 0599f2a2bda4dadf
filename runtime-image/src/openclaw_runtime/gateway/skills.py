"""The agent's skills with what runs them: the registry, the checks, and pods or processes."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.egress.policy import Rules
from openclaw_runtime.egress.resolver import Resolver
from openclaw_runtime.egress.settings import api_server
from openclaw_runtime.environ import SettingsError
from openclaw_runtime.errors import ConfigError, ConfigProblem
from openclaw_runtime.gateway import stores
from openclaw_runtime.sandbox.executors import create_executor
from openclaw_runtime.sandbox.kube import KubeApi, KubeError
from openclaw_runtime.skills.audit import Audit, FileAudit, LogAudit
from openclaw_runtime.skills.mcp.executor import McpExecutor
from openclaw_runtime.skills.mcp.outward import Outward
from openclaw_runtime.skills.registry import SkillRegistry
from openclaw_runtime.skills.service import SkillService
from openclaw_runtime.skills.types import CallContext, InstalledSkill, QueueObserver, SkillResult

logger = logging.getLogger(__name__)


class RuntimeSkills:
    """The `SkillHost` of a real gateway.

    `workspace` is where skills with a filesystem permission work when they run on this machine. Raises `ConfigError`
    when sandboxes of the kind that `execution.sandbox` names cannot be used here.
    """

    def __init__(
        self,
        config: RuntimeConfig,
        *,
        environ: Mapping[str, str],
        environment: Mapping[str, str],
        data_dir: Path,
        workspace: Path | None,
    ) -> None:
        pods = config.execution.sandbox.provider == "pods"
        self._api = _cluster(environ) if pods else None
        api = self._api
        sandboxes = create_executor(config, environ, workspace=workspace, api=(lambda: api) if api else None)
        self._executor = McpExecutor(sandboxes, _outward(config, environ) if pods else None)
        self._registry = SkillRegistry(config.claw.namespace, api, environment)
        self._service = SkillService(
            config.claw.name,
            self._registry,
            self._executor,
            audit_of(config, data_dir),
            rates=stores.rates(config, time.monotonic),
            security_level=config.skills.security_level,
        )
        self._executor.changed = self._service.discovery.refresh
        self._preload: asyncio.Task[None] | None = None
        self._proxied = pods
        self._told = False

    def installed(self) -> tuple[InstalledSkill, ...]:
        """Returns the skills that are loaded."""
        return self._service.installed()

    async def call(
        self, skill: InstalledSkill, action: str, arguments: dict[str, Any], *, session: str, context: CallContext
    ) -> SkillResult:
        """Checks and makes one call. Raises `SandboxError` or `SkillsError`."""
        return await self._service.call(skill, action, arguments, session=session, context=context)

    def watch(self, changed: Callable[[], None]) -> None:
        """Has `changed` called when the tools of an MCP server came to be known, or are others."""
        self._service.discovery.watch(changed)

    async def start(self) -> None:
        """Starts watching pods or warming processes."""
        await self._executor.start()

    async def close(self) -> None:
        """Ends it, calls in flight included."""
        if self._preload is not None:
            self._preload.cancel()
            await asyncio.gather(self._preload, return_exceptions=True)
        await self._service.close()
        await self._executor.close()
        if self._api is not None:
            await self._api.close()

    async def load(self, config: RuntimeConfig) -> None:
        """Loads the skills of a configuration. Raises `ManifestError` or `ConfigError` and changes nothing."""
        await self._service.load(config.skills)
        self._tell_of_the_network()
        if self._preload is not None:
            self._preload.cancel()
        self._preload = asyncio.create_task(self._registry.preload(), name="preload-packages")

    def _tell_of_the_network(self) -> None:
        """Says once that no proxy is here to keep skills to their hosts."""
        network = {"network:internal", "network:external"}
        names = [skill.name for skill in self._registry.installed() if network & skill.permissions]
        if names and not self._proxied and not self._told:
            self._told = True
            logger.warning("allowedDomains is enforced in a cluster only: here %s may reach any host", ", ".join(names))

    def status(self) -> dict[str, Any]:
        """Returns what is warm, used and waiting, and what is wrong."""
        return self._executor.status()

    def observe(self, queue: QueueObserver) -> None:
        """Tells `queue` from now on how calls wait for sandboxes."""
        self._executor.observe(queue)


def _outward(config: RuntimeConfig, environ: Mapping[str, str]) -> Outward:
    sandbox = config.execution.sandbox
    try:
        known = api_server(environ)
    except SettingsError as error:
        raise ConfigError("environment", [ConfigProblem("execution.sandbox", str(error))]) from None
    rules = Rules(known, allow_api_server=sandbox.allow_api_server, denied=tuple(sandbox.denied_networks))
    return Outward(rules, Resolver())


def audit_of(config: RuntimeConfig, data_dir: Path) -> Audit:
    """Returns where calls and runs are recorded.

    In a cluster the log is collected and the pod's folder is not; on a laptop it is the other way round.
    """
    pods = config.execution.sandbox.provider == "pods"
    return Audit([LogAudit() if pods else FileAudit(data_dir / "audit.jsonl")])


def _cluster(environ: Mapping[str, str]) -> KubeApi:
    try:
        return KubeApi.in_cluster(dict(environ))
    except KubeError as error:
        raise ConfigError("sandbox", [ConfigProblem("execution.sandbox.provider", str(error))]) from None
