"""Starts local sandboxes; if that fails, nothing of them is left."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from paddock._frozen import FrozenMapping
from paddock.backends import lease
from paddock.backends.egress import gate
from paddock.backends.guest.program import (
    WITH_GUEST,
    Program,
    StartedGuest,
    Streams,
    connect,
    run,
)
from paddock.backends.isolation.dirs import require_dirs
from paddock.backends.isolation.plan import Plan, confined, fenced, plain
from paddock.backends.isolation.processes import ForkedProcess, fork_server
from paddock.backends.local.sandbox import LocalSandbox
from paddock.network import Allow
from paddock.sandbox import Capability, Resources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.isolation.levels import Enforced

__all__ = ["Network", "Wanted", "start"]

Network = Literal["auto", "none", "full"] | Allow

ALWAYS = WITH_GUEST if sys.platform == "linux" else frozenset({Capability.URL, Capability.TCP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a recipe asks for that matters at the start of a sandbox."""

    network: Network = "auto"
    resources: Resources = field(default_factory=Resources)
    working_dir: str | None = None
    dirs: tuple[str, ...] = ()
    env_vars: Mapping[str, str] = field(default_factory=FrozenMapping)
    labels: Mapping[str, str] = field(default_factory=FrozenMapping)


async def start(wanted: Wanted, found: Enforced) -> LocalSandbox:
    """Make a directory, a guest in it and the stream to it; on a failure none of them is left."""
    streams = await Streams.open()
    try:
        directory, plan, forked = await asyncio.to_thread(_begin, wanted, found, streams)
        try:
            guest = await _follow(plan, forked, streams)
        except BaseException:
            await asyncio.to_thread(directory.remove)
            raise
    except BaseException:
        streams.close_ours()
        raise
    finally:
        streams.close_theirs()
    way_out = gate(wanted.network)
    sandbox = LocalSandbox(
        guest,
        directory=directory,
        working_dir=plan.working_dir,
        env={**way_out.environment(plan.env), **wanted.env_vars},
        labels=wanted.labels,
        capabilities=found.capabilities(ALWAYS - plan.missing),
        gate=way_out,
        groups=plan.groups,
    )
    await sandbox.begin(limits=plan.limits, spill_dir=plan.output, lease=None, listen=way_out.port)
    return sandbox


_swept: set[str] = set()


def _sweep_once() -> None:
    """Remove what dead processes have left, the first time that this one makes a sandbox."""
    base = tempfile.gettempdir()
    if base not in _swept:
        _swept.add(base)
        lease.sweep()


def _begin(
    wanted: Wanted, found: Enforced, streams: Streams
) -> tuple[lease.OwnedDirectory, Plan, ForkedProcess | None]:
    """All that blocks: make the directory, and have the fork server start what it is to start."""
    _sweep_once()
    directory = lease.OwnedDirectory.create(labels=wanted.labels, working_dir=wanted.working_dir)
    try:
        plan = _prepare(wanted, found, directory)
        if plan.orders is None:
            return directory, plan, None
        try:
            descriptors = (streams.theirs.fileno(), streams.writer, *plan.passed)
            return directory, plan, fork_server.start(plan.orders, descriptors)
        finally:
            plan.close()
    except BaseException:
        directory.remove()
        raise


def _prepare(wanted: Wanted, found: Enforced, directory: lease.OwnedDirectory) -> Plan:
    require_dirs(wanted.dirs)
    if found.level == "none":
        return plain(directory.path, wanted.working_dir, fork_server.umask())
    if wanted.working_dir is not None:
        lease.check_outside("working_dir", wanted.working_dir)
    for path in wanted.dirs:
        lease.check_outside("dirs", path)
    if found.level == "landlock":
        return confined(
            directory,
            wanted.working_dir,
            resources=wanted.resources,
            places=found.places,
            abi=found.abi,
            dirs=wanted.dirs,
        )
    return fenced(
        directory,
        wanted.working_dir,
        resources=wanted.resources,
        places=found.places,
        network=wanted.network == "full",
        dirs=wanted.dirs,
    )


async def _follow(plan: Plan, forked: ForkedProcess | None, streams: Streams) -> StartedGuest:
    """Start the process, unless it was `forked` already, and connect to its guest."""
    process: Program
    if forked is None:
        try:
            process = await run(plan.argv, streams, env={}, passed=plan.passed)
        finally:
            plan.close()
    else:
        process = forked
        await forked.connect()
    return await connect(process, streams)
