"""Kill the maker of many working sandboxes, again and again, and count what is left.

Each round starts a process that makes sandboxes in containers and keeps them busy, kills
it with SIGKILL at a random moment from its first create on, and waits until no container,
network or volume of it is left. Nobody sweeps meanwhile: what a dead maker leaves has to go
by itself. With ``--sweep`` other processes use the engine, and sweep it as they do.

    python bench/chaos.py [--rounds 20] [--sandboxes 30] [--lease 5] [--seed N] [--sweep]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

# bench/docker.py has the package's name: a script's own folder comes first.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).parent]

from paddock import DockerBackend  # noqa: E402
from paddock.backends.docker.containers import owner  # noqa: E402
from paddock.backends.docker.engine.client import Engine  # noqa: E402

PATIENCE = 30.0
"""Seconds, beyond the lease, for a loaded engine to remove all that have ended."""
LOOK = 0.2
"""Seconds between two looks."""
LATEST = 12.0
"""Seconds after the first create until the kill: by then all of them work."""

MAKER = """
import asyncio, sys
from paddock import DockerBackend

async def one(lease):
    async with DockerBackend(network="none", lease=lease).sandbox() as sandbox:
        while True:
            await sandbox.exec("setsid sleep 100 & echo work > file; seq 1000; sleep 0.1")
            await sandbox.fs.write_text("file", "x" * 10000)

async def main(sandboxes, lease):
    print("making", flush=True)
    await asyncio.gather(*(one(lease) for _ in range(sandboxes)))

asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    rounds: int
    sandboxes: int
    lease: float
    seed: int
    sweep: bool


async def left(engine: Engine) -> list[str]:
    """Containers, networks and volumes of this place."""
    client = engine.client
    ours = {"label": f"{owner.HOST_LABEL}={owner.host_id()}"}
    found = await engine.call("listing", client.containers, all=True, filters=ours)
    networks = await engine.call("listing", client.networks, filters=ours)
    volumes = await engine.call("listing", client.volumes, filters=ours)
    return [
        *(f"{container['Names'][0]} ({container['State']})" for container in found),
        *(network["Name"] for network in networks),
        *(volume["Name"] for volume in volumes["Volumes"] or ()),
    ]


@dataclass(frozen=True, kw_only=True)
class Round:
    """`there` were there when their maker died; the last was seen `seconds` after that, and
    `remaining` still are."""

    there: int
    remaining: list[str]
    seconds: float


async def play(engine: Engine, options: Options, delay: float) -> Round:
    maker = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", MAKER, str(options.sandboxes), str(options.lease)),
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": tempfile.gettempdir()},
    )
    assert maker.stdout is not None
    await maker.stdout.readline()
    await asyncio.sleep(delay)
    maker.kill()
    await maker.wait()
    killed = time.monotonic()
    there = len(await left(engine))
    seconds = 0.0
    # To the lease's end even if there is none: an engine goes on with what it was asked for.
    while (remaining := await left(engine)) or time.monotonic() - killed < options.lease:
        if remaining:
            seconds = time.monotonic() - killed
        if seconds > options.lease + PATIENCE:
            break
        if options.sweep:
            await DockerBackend().gc()
        await asyncio.sleep(LOOK)
    return Round(there=there, remaining=remaining, seconds=seconds)


async def main(options: Options) -> int:
    engine = await Engine.connect()
    chance = random.Random(options.seed)
    rounds = []
    for number in range(options.rounds):
        delay = chance.uniform(0, LATEST)
        played = await play(engine, options, delay)
        rounds.append(played)
        print(
            f"round {number + 1:2}: killed after {delay:5.2f} s with {played.there:2} containers, "
            f"{len(played.remaining)} left after {played.seconds:.1f} s",
            *played.remaining,
            flush=True,
        )
        await DockerBackend().gc()  # what is left has been counted, and the next begins with none
    orphans = sum(len(played.remaining) for played in rounds)
    gone = sorted(played.seconds for played in rounds)
    print(
        f"{options.rounds} rounds of {options.sandboxes} sandboxes, lease {options.lease:g} s, "
        f"{'with sweeps' if options.sweep else 'no sweep'}, seed {options.seed}: {orphans} left; "
        f"gone after {gone[len(gone) // 2]:.1f} s (median), {gone[-1]:.1f} s (longest)"
    )
    return 1 if orphans else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--sandboxes", type=int, default=30)
    parser.add_argument("--lease", type=float, default=5.0, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sweep", action="store_true", help="as other processes do")
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        status = asyncio.run(main(Options(**vars(parser.parse_args()))))
    sys.exit(status)
