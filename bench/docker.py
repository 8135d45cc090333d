"""What a container costs, beside the bare Engine API in the same run.

- cold start: from nothing to the first result, ours beside create + start + exec of the API;
- exec: a command in a warm sandbox, one at a time and several at once, beside the API's exec;
- transfers: one file of 256 MiB and 5,000 small ones, up and down, beside the API's archives;
- fifty sandboxes at once, and taking one from a warm pool.

The engine needs ``paddock:base`` (``paddock image bootstrap`` makes it).

    python bench/docker.py [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tarfile
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

# This file is called docker, and so is the package: a script's own folder comes first.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).parent]

from paddock import DockerBackend  # noqa: E402
from paddock.backends.docker.engine.client import Engine  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paddock import Sandbox

    Timed = Callable[[], Awaitable[object]]

IMAGE = "paddock:base"
RECIPE = DockerBackend(image=IMAGE, network="none")
MIB = 1024 * 1024


async def timed(work: Timed) -> float:
    """Milliseconds."""
    begun = time.perf_counter()
    await work()
    return (time.perf_counter() - begun) * 1000


def row(what: str, ours: float, bare: float | None, unit: str = "ms") -> None:
    beside = "" if bare is None else f"{bare:12.1f}{ours / bare:9.2f}x"
    print(f"{what:34}{ours:10.1f} {unit:4}{beside}")


class Bare:
    """The engine's API used directly, with the same limits."""

    def __init__(self, engine: Engine) -> None:
        self.client = engine.client

    def create(self) -> str:
        host = self.client.create_host_config(network_mode="none", auto_remove=True)
        made = self.client.create_container(
            IMAGE, ["sleep", "600"], working_dir="/workspace", host_config=host
        )
        self.client.start(made["Id"])
        return str(made["Id"])

    def exec(self, container: str) -> None:
        made = self.client.exec_create(container, ["true"])
        self.client.exec_start(made["Id"])
        assert self.client.exec_inspect(made["Id"])["ExitCode"] == 0

    def remove(self, container: str) -> None:
        self.client.remove_container(container, force=True)

    def put(self, container: str, source: Path) -> None:
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                archive.add(source, arcname=source.name)
            file.seek(0)
            self.client.put_archive(container, "/workspace", file)

    def get(self, container: str, name: str, target: Path) -> None:
        pieces, _ = self.client.get_archive(container, f"/workspace/{name}", chunk_size=MIB)
        with tempfile.TemporaryFile() as file:
            file.writelines(pieces)
            file.seek(0)
            with tarfile.open(fileobj=file) as archive:
                archive.extractall(target, filter="data")


async def cold_start(bare: Bare, rounds: int) -> None:
    ours, theirs = [], []
    for _ in range(rounds):
        begun = time.perf_counter()
        sandbox = await RECIPE.create()
        await sandbox.exec(["true"])
        ours.append((time.perf_counter() - begun) * 1000)
        await sandbox.aclose()
        begun = time.perf_counter()
        container = await asyncio.to_thread(bare.create)
        await asyncio.to_thread(bare.exec, container)
        theirs.append((time.perf_counter() - begun) * 1000)
        await asyncio.to_thread(bare.remove, container)
    row("cold start to first result", statistics.median(ours), statistics.median(theirs))


async def exec_rates(sandbox: Sandbox, bare: Bare, container: str, calls: int) -> None:
    ours = sorted([await timed(lambda: sandbox.exec(["true"])) for _ in range(calls)])
    theirs = sorted(
        [await timed(lambda: asyncio.to_thread(bare.exec, container)) for _ in range(calls // 10)]
    )
    row("exec p50", ours[len(ours) // 2], theirs[len(theirs) // 2])
    row("exec p95", ours[len(ours) * 95 // 100], theirs[len(theirs) * 95 // 100])
    for at_once in (1, 8, 32):

        async def one(count: int) -> None:
            for _ in range(count):
                await sandbox.exec(["true"])

        each = calls // at_once
        begun = time.perf_counter()
        await asyncio.gather(*(one(each) for _ in range(at_once)))
        row(f"exec, {at_once} at once", each * at_once / (time.perf_counter() - begun), None, "/s")


async def transfers(bare: Bare, size: int, files: int, rounds: int) -> None:
    """Every other round the API is first: what is written later may wait for the disk."""
    taken: dict[str, tuple[list[float], list[float]]] = {}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "big").write_bytes(os.urandom(size))
            (folder / "many").mkdir()
            for file in range(files):
                (folder / "many" / f"f{file}").write_bytes(b"x" * 500)
            os.sync()
            container = await asyncio.to_thread(bare.create)
            try:
                async with RECIPE.sandbox() as sandbox:
                    for item, told in (("big", f"{size // MIB} MiB"), ("many", f"{files} files")):
                        there = folder / "ours" / item
                        bare_get = partial(bare.get, container, item, folder / "bare")
                        ways: dict[str, tuple[Timed, Timed]] = {
                            "upload": (
                                partial(sandbox.fs.upload, folder / item, item),
                                partial(asyncio.to_thread, bare.put, container, folder / item),
                            ),
                            "download": (
                                partial(sandbox.fs.download, item, there),
                                partial(asyncio.to_thread, bare_get),
                            ),
                        }
                        for way, both in ways.items():
                            times = taken.setdefault(f"{way} of {told}", ([], []))
                            for side in (0, 1) if number % 2 == 0 else (1, 0):
                                times[side].append(await timed(both[side]))
            finally:
                await asyncio.to_thread(bare.remove, container)
    for what, (ours, theirs) in taken.items():
        row(what, statistics.median(ours), statistics.median(theirs))


async def many(bare: Bare, count: int) -> None:
    async def one() -> None:
        async with RECIPE.sandbox() as sandbox:
            await sandbox.exec(["true"])

    def bare_one() -> None:
        container = bare.create()
        bare.exec(container)
        bare.remove(container)

    row(
        f"{count} at once, made, used, removed",
        await timed(lambda: asyncio.gather(*(one() for _ in range(count)))),
        await timed(lambda: asyncio.gather(*(asyncio.to_thread(bare_one) for _ in range(count)))),
    )


async def from_pool(takes: int) -> None:
    async with RECIPE.pool(size=8) as pool:
        taken = []
        for _ in range(takes):
            await pool.wait_ready()
            begun = time.perf_counter()
            sandbox = await pool.acquire()
            taken.append((time.perf_counter() - begun) * 1000)
            await sandbox.aclose()
        row("take from a warm pool, p50", statistics.median(taken), None)
        row("take from a warm pool, max", max(taken), None)


async def main(*, quick: bool) -> None:
    engine = await Engine.connect()
    bare = Bare(engine)
    print(f"{'':34}{'ours':>15}{'bare API':>12}{'ratio':>9}")
    await cold_start(bare, 3 if quick else 15)
    container = await asyncio.to_thread(bare.create)
    try:
        async with RECIPE.sandbox() as sandbox:
            await exec_rates(sandbox, bare, container, 320 if quick else 1600)
    finally:
        await asyncio.to_thread(bare.remove, container)
    await transfers(bare, *((16 * MIB, 500, 2) if quick else (256 * MIB, 5000, 6)))
    await many(bare, 5 if quick else 50)
    await from_pool(8 if quick else 24)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller, to try it out")
    asyncio.run(main(quick=parser.parse_args().quick))
