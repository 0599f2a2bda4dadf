"""Which executor a configuration asks for."""

from collections.abc import Callable, Mapping
from pathlib import Path

from openclaw_runtime.config import RuntimeConfig
from openclaw_runtime.egress.client import EgressClient
from openclaw_runtime.errors import ConfigError, ConfigProblem
from openclaw_runtime.sandbox.keyfile import KeyFile
from openclaw_runtime.sandbox.kube import KubeApi, KubeError
from openclaw_runtime.sandbox.local_executor import SubprocessExecutor
from openclaw_runtime.sandbox.pod_executor import PodExecutor
from openclaw_runtime.sandbox.signing import SigningError
from openclaw_runtime.skills.types import Level, SkillExecutor


def create_executor(
    config: RuntimeConfig,
    environ: Mapping[str, str],
    *,
    workspace: Path | None = None,
    api: Callable[[], KubeApi] | None = None,
) -> SkillExecutor:
    """Returns the executor that `execution.sandbox` asks for. Raises `ConfigError`.

    `workspace` is where skills with a filesystem permission work when they run on this machine. `api` makes the
    Kubernetes client; the default is the cluster this process runs in.
    """
    sandbox = config.execution.sandbox
    security = config.skills.security_level
    concurrent = config.execution.max_concurrent
    # A call that waits for its user keeps its process, and must not keep others from theirs.
    processes = 4 * concurrent + config.execution.max_questions
    # In a cluster the operator has decided: what the configuration calls trusted runs here, everything else does not.
    level: Level = "trusted" if sandbox.provider == "pods" else sandbox.level
    local = SubprocessExecutor(
        workspace=workspace,
        security=security,
        level=level,
        max_warm=concurrent,
        limit=processes,
        keep_leases=concurrent,
    )
    if sandbox.provider == "subprocess":
        return local
    assert sandbox.signing_key_file is not None
    try:
        signer = KeyFile(sandbox.signing_key_file)
    except (OSError, SigningError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problem = ConfigProblem("execution.sandbox.signing_key_file", f"{sandbox.signing_key_file}: {reason}")
        raise ConfigError("sandbox", [problem]) from None
    try:
        client = api() if api else KubeApi.in_cluster(dict(environ))
    except KubeError as error:
        raise ConfigError("sandbox", [ConfigProblem("execution.sandbox.provider", str(error))]) from None
    proxy = sandbox.egress
    return PodExecutor(
        client,
        config.claw.namespace,
        signer,
        port=sandbox.port,
        security=security,
        trusted=local,
        keep_leases=concurrent,
        egress=EgressClient(
            signer, proxy.host, proxy.port, proxy.api_port, ask_seconds=config.execution.ask_timeout_seconds
        )
        if proxy
        else None,
    )
