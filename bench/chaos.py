"""Kill the maker of many working sandboxes, again and again, and count what is left.

Each round starts a process that makes sandboxes in containers and keeps them busy, kills
it with SIGKILL at a random moment from its first create on, waits for the lease and one
sweep, and counts the containers, networks and volumes that are left. All have to be none.

    python bench/chaos.py [--rounds 20] [--sandboxes 30] [--seed N]
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
from pathlib import Path

# bench/docker.py has the package's name: a script's own folder comes first.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).parent]

from paddock import DockerBackend  # noqa: E402
from paddock.backends.docker import owner  # noqa: E402
from paddock.backends.docker.engine import Engine  # noqa: E402

SWEPT = 60.0
"""Seconds until nothing may be left: the default lease."""
LATEST = 12.0
"""Seconds after the first create until the kill: by then all of them work."""

MAKER = """
import asyncio, sys
from paddock import DockerBackend

async def one(number):
    async with DockerBackend(network="none").sandbox() as sandbox:
        while True:
            await sandbox.exec("setsid sleep 100 & echo work > file; seq 1000; sleep 0.1")
            await sandbox.fs.write_text(f"f{number}", "x" * 10000)

async def main():
    print("making", flush=True)
    await asyncio.gather(*(one(number) for number in range(int(sys.argv[1]))))

asyncio.run(main())
"""


async def left(engine: Engine) -> list[str]:
    """Containers, networks and volumes of this place."""
    client = engine.client
    ours = {"label": f"{owner.PLACE_LABEL}={owner.place()}"}
    found = await engine.call("listing", client.containers, all=True, filters=ours)
    networks = await engine.call("listing", client.networks, filters=ours)
    volumes = await engine.call("listing", client.volumes, filters=ours)
    return [
        *(container["Names"][0] for container in found),
        *(network["Name"] for network in networks),
        *(volume["Name"] for volume in volumes["Volumes"] or ()),
    ]


async def play(engine: Engine, sandboxes: int, delay: float) -> tuple[int, float]:
    """One round: how many there were when the maker died, and seconds until none was left."""
    maker = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", MAKER, str(sandboxes)),
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
    while await left(engine):
        if time.monotonic() - killed > SWEPT:
            break
        # What was created and not yet started has no guest to end it; a sweep finds it.
        await DockerBackend().gc()
        await asyncio.sleep(0.2)
    return there, time.monotonic() - killed


async def main(rounds: int, sandboxes: int, seed: int) -> int:
    engine = await Engine.connect()
    chance = random.Random(seed)
    orphans = 0
    gone = []
    for number in range(rounds):
        delay = chance.uniform(0, LATEST)
        there, seconds = await play(engine, sandboxes, delay)
        remaining = await left(engine)
        orphans += len(remaining)
        gone.append(seconds)
        print(
            f"round {number + 1:2}: killed after {delay:5.2f} s with {there:2} containers, "
            f"{len(remaining)} left after {seconds:.1f} s"
        )
    gone.sort()
    print(
        f"{rounds} rounds of {sandboxes} sandboxes, seed {seed}: {orphans} left; "
        f"gone after {gone[len(gone) // 2]:.1f} s (median), {gone[-1]:.1f} s (longest)"
    )
    return 1 if orphans else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--sandboxes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        status = asyncio.run(main(options.rounds, options.sandboxes, options.seed))
    sys.exit(status)
