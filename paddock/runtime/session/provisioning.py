"""Making a session's sandbox, with the events of it and of its commands. Knows no session."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from paddock._concurrency import finish
from paddock.runtime.core.events import ProvisionFinished, ProvisionStarted

if TYPE_CHECKING:
    from collections.abc import Callable

    from paddock.backends.base import ProgressCallback
    from paddock.process import CommandReport
    from paddock.runtime.agents.secret_scope import SecretScope
    from paddock.runtime.core.emitter import Emitter
    from paddock.sandbox import Sandbox

__all__ = ["provision"]


async def provision(
    secrets: SecretScope, current: Callable[[], Emitter | None], on_progress: ProgressCallback
) -> Sandbox:
    """Make a sandbox, for the caller to close.

    `current` returns where events go now: those of this, and later those of each command. There
    do not exist if it returns None.
    """

    def on_command(report: CommandReport) -> None:
        if (out := current()) is not None:
            out.note(report.finished)

    make = functools.partial(
        secrets.agent.provision,
        on_progress=on_progress,
        on_command=on_command,
        secrets=secrets.own,
    )
    out = current()
    if out is None:
        return await make()
    backend, began = secrets.agent.config.backend_name, time.monotonic()
    with out.around(await out.emit(ProvisionStarted(backend=backend))):
        try:
            sandbox = await make()
        except BaseException as error:
            duration, kind = time.monotonic() - began, type(error).__name__
            out.note(ProvisionFinished(backend=backend, duration=duration, error=kind))
            raise
    duration = time.monotonic() - began
    try:
        out.note(ProvisionFinished(backend=backend, duration=duration, sandbox_id=sandbox.id))
    except BaseException:
        await finish(sandbox.aclose())
        raise
    return sandbox
