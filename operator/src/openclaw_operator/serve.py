"""Runs the operator: the controller, the watches of kopf, metrics and health, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import secrets
import signal
import time
from datetime import UTC, datetime

import kopf
import uvloop
from prometheus_client import start_http_server

from openclaw_operator import telemetry
from openclaw_operator.cluster.client import Client
from openclaw_operator.cluster.connection import connect
from openclaw_operator.errors import WatchError
from openclaw_operator.handlers import registry
from openclaw_operator.reconcile.controller import Controller
from openclaw_operator.settings import Settings

LOG = logging.getLogger(__name__)
KOPF_STOP_SECONDS = 2.0


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop` is set. Raises OperatorError when it cannot start."""
    metrics = telemetry.Metrics()
    if settings.metrics_port:
        start_http_server(settings.metrics_port, registry=metrics.registry)
    connection = await connect()
    async with Client(
        connection,
        metrics,
        request_seconds=settings.request_seconds,
        watch_silence_seconds=settings.watch_silence_seconds,
        page_size=settings.page_size,
    ) as client:
        controller = Controller(
            client,
            settings,
            metrics,
            now=lambda: datetime.now(UTC),
            monotonic=time.monotonic,
            jitter=random.random,
            random_bytes=secrets.token_bytes,
            instance=os.environ.get("POD_NAME", f"openclaw-operator-{os.getpid()}"),
        )
        listed = asyncio.Event()
        loop = asyncio.create_task(controller.run(listed), name="controller")
        waiting = asyncio.create_task(listed.wait(), name="listed")
        await asyncio.wait({loop, waiting}, return_when=asyncio.FIRST_COMPLETED)
        watch: asyncio.Task[None] | None = None
        if not loop.done():
            LOG.info("serving %s", ", ".join(settings.watch_namespaces) or "all namespaces")
            watch = asyncio.create_task(_watch(settings, registry.build(controller, connection)))
        stopping = asyncio.create_task(stop.wait(), name="stop")
        tasks = {task for task in (loop, watch, stopping) if task}
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # kopf has no work of its own to finish: told by its stop flag, it would wait 5 s for tasks that never end.
        for task in {*tasks, waiting}:
            task.cancel()
        await asyncio.gather(*tasks, waiting, return_exceptions=True)
        for task in done:
            if not task.cancelled() and (error := task.exception()):
                raise _root(error)


async def _watch(settings: Settings, handlers: kopf.OperatorRegistry) -> None:
    tasks = await kopf.spawn_tasks(
        registry=handlers,
        settings=registry.configure(settings),
        standalone=True,
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
        liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz" if settings.health_port else None,
    )
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Where one of them fails, kopf.run_tasks waits for others that never end, and nobody watches any more.
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=KOPF_STOP_SECONDS)
    for task in done:
        if error := task.exception():
            failure = WatchError(f"kopf watches no more: {_root(error)}")
            # Told at once: what is left of kopf may keep the process from ending until kopf kills it.
            LOG.error("%s", failure)
            raise failure from error


def _root(error: BaseException) -> BaseException:
    """The first plain error inside exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await run(settings, stop)


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises OperatorError when it cannot start."""
    telemetry.setup_logging(settings.log_level, settings.log_format)
    telemetry.setup_tracing(os.environ)
    # Nearly all garbage here is freed by its count of references. What is loaded by now stays, and the rest is looked
    # through ten times less often than by default: that took a tenth of all time.
    gc.freeze()
    gc.set_threshold(7_000, 10, 10)
    uvloop.run(_serve(settings))
