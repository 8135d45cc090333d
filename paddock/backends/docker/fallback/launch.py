"""Which images have no Python that a guest can run on, and how their sandboxes start.

It is found out by trying: an image that has one costs nothing, one that has none a start
that fails, once in a process.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from paddock._concurrency import interruptible
from paddock._logs import get_logger
from paddock.backends.docker.containers import owner
from paddock.backends.docker.containers.control import remove_container
from paddock.backends.docker.containers.creation import create_container, start_container
from paddock.backends.docker.containers.exit_reason import exit_reason
from paddock.backends.docker.containers.forks import Forks
from paddock.backends.docker.containers.guests import GuestNotStarted, start_guest
from paddock.backends.docker.containers.plan import BACKEND
from paddock.backends.docker.engine.attach import open_stream
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.fallback.inside import first_process
from paddock.backends.docker.fallback.sandbox import FallbackSandbox
from paddock.backends.docker.fallback.watchdog import Watchdog
from paddock.backends.docker.images.store import identity
from paddock.errors import SandboxLost, Unsupported

if TYPE_CHECKING:
    from paddock.backends.docker.containers.forks import Make
    from paddock.backends.docker.containers.owner import OwnerLock
    from paddock.backends.docker.containers.plan import ContainerPlan
    from paddock.backends.docker.engine.attach import AttachedStream
    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.posix.inside import Inside
    from paddock.sandbox import Sandbox

__all__ = ["lacks_python", "start"]

READY_DEADLINE = 60.0
"""Seconds from the start of a container until its first process has to be heard."""
NO_PROGRAM = re.compile(r'exec: \\?"(python3|sh)\\?"')
"""How runtimes say that a program is not in the image."""
NOT_FULL = re.compile(r"^(ModuleNotFoundError|ImportError|SyntaxError)\b", re.MULTILINE)
"""How a Python ends that lacks modules, or is too old for the guest."""
TRACEBACK = "Traceback (most recent call last)"
NOT_ITS_OWN = re.compile(
    r"its memory ran out|its container (was killed|ended \(exit 137\))|the Docker Engine"
)
"""Exit reasons that say nothing about the Python of an image."""

GUESTS_LABELS = (owner.JOIN_TOKEN_LABEL, owner.USER_LABEL)
"""Labels for processes that join a guest."""

_log = get_logger(__name__)
_without_python: dict[tuple[str, str], str | None] = {}
"""Engine and name of images that have none, and which image it was then."""


async def start(engine: Engine, plan: ContainerPlan, lock: OwnerLock, make: Make) -> Sandbox:
    """Start a container with a guest, or without one if its image has no Python.

    `make` is for its forks. Raise what `start_guest` raises, and `Unsupported` for an image
    without Python if the plan needs a guest. On a failure the container may be left.
    """
    image = (engine.endpoint.url, plan.image)
    if image not in _without_python or _without_python[image] != await identity(engine, plan.image):
        try:
            return await start_guest(engine, plan, lock, make)
        except (EngineError, SandboxLost) as error:
            if not lacks_python(error):
                raise
            _log.warning("%s has no Python that runs the guest: %s", plan.image, error)
        await remove_container(engine, plan.name)
        _without_python[image] = await identity(engine, plan.image)
    lease = _lease(plan, engine)
    watchdog = Watchdog()
    try:
        plan, stream, inside = await _started(engine, plan, watchdog, lease)
    except BaseException:
        watchdog.link.fail("it could not be started")
        raise
    return FallbackSandbox(
        engine=engine,
        watchdog=watchdog,
        inside=inside,
        stream=stream,
        plan=plan,
        lock=lock,
        lease=lease,
        forks=Forks(engine, plan, make),
    )


def lacks_python(error: EngineError | SandboxLost) -> bool:
    """Return whether a guest could not start for want of a Python that starts, and is whole.

    One that got as far as a traceback of another kind runs: what failed is not its own.
    """
    program = NO_PROGRAM.search(str(error))
    if program is not None:
        return program[1] == "python3"
    if not isinstance(error, GuestNotStarted):
        return False
    if NOT_FULL.search(error.cause):
        return True
    return TRACEBACK not in error.cause and not NOT_ITS_OWN.match(error.cause)


def _lease(plan: ContainerPlan, engine: Engine) -> float:
    """The lease of a sandbox that needs no guest; raises `Unsupported` for one that does."""
    hint = "use an image that has Python 3.8 or newer"
    if plan.network not in ("full", "none"):
        raise Unsupported("network=Allow(...) without Python", backend=BACKEND, hint=hint)
    if plan.lease is None:
        raise Unsupported("lease=None without Python", backend=BACKEND, hint=hint)
    if engine.endpoint.ssl_context() is not None:
        # The end of a command's stdin is the end of our half of a stream, which TLS has not.
        raise Unsupported("images without Python over TLS", backend=BACKEND, hint=hint)
    return plan.lease


async def _started(
    engine: Engine, plan: ContainerPlan, watchdog: Watchdog, lease: float
) -> tuple[ContainerPlan, AttachedStream, Inside]:
    labels = {key: value for key, value in plan.labels.items() if key not in GUESTS_LABELS}
    plan = replace(plan, labels=labels, guest_is_root=False, can_spare_network=False)
    plan = await create_container(engine, plan, entrypoint=first_process(lease))
    stream = await open_stream(engine, plan.container, watchdog)
    try:
        await start_container(engine, plan)
    except EngineError as error:
        if NO_PROGRAM.search(str(error)) is None:
            raise
        what = "images that have neither Python nor a shell"
        raise Unsupported(what, backend=BACKEND) from None
    try:
        async with asyncio.timeout(READY_DEADLINE):
            inside = await interruptible(watchdog.ready)
    except TimeoutError:
        reason = f"its first process did not answer within {READY_DEADLINE:g} s"
        raise SandboxLost(reason) from None
    if inside is None:
        cause = stream.log or await exit_reason(engine, plan.container, said="")
        raise SandboxLost(f"its first process did not start: {cause}")
    return plan, stream, inside
