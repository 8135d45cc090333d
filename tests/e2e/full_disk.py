"""Batches on a disk that becomes full: prints a line of JSON for each number of free bytes.

Usage: full_disk.py FOLDER FREE... in a mount namespace of its own, in which it mounts a small disk
at FOLDER. Each batch gets as many bytes as FREE says, is resumed once without more, and then with
enough.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from paddock import BatchGaveUp, Fleet, LocalBackend, Sandbox

SIZE = 8 * 2**20
ARTIFACT = 100_000
TASKS = [{"id": f"t{number}"} for number in range(6)]

ran: list[str] = []


async def solve(sandbox: Sandbox, task: Any) -> str:
    ran.append(task["id"])
    await sandbox.fs.write_bytes("answer", b"x" * ARTIFACT)
    return "y" * 2000


def run(out: Path, *, resume: bool) -> tuple[str, list[str]]:
    """Run or resume a batch; return how that ended, and which tasks had an accepted result."""
    return asyncio.run(_run(out, resume=resume))


async def _run(out: Path, *, resume: bool) -> tuple[str, list[str]]:
    backend = LocalBackend(isolation="none")
    found = []
    try:
        async with Fleet(backend, out=out, limit=2, artifacts=["answer"], resume=resume) as fleet:
            async for result in fleet.map(solve, None if resume else TASKS):
                assert result.status == "completed", result.error
                assert result.result == "y" * 2000
                found.append(result.key)
            await fleet.report()
    except BatchGaveUp as error:
        return f"gave up: {error.reason}", found
    except OSError as error:
        return f"not begun: {error}", found
    return "done", found


def fill_and_mend(folder: Path, free: int) -> dict[str, Any]:
    ran.clear()
    shutil.rmtree(folder / "run", ignore_errors=True)
    filler = folder / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(folder).free - free))
    first, accepted = run(folder / "run", resume=False)
    second = "done"
    if first.startswith("gave up"):
        second, again = run(folder / "run", resume=True)
        accepted = [*{*accepted, *again}]
    filler.unlink()
    before = len(ran)
    last, found = run(folder / "run", resume=not first.startswith("not begun"))
    assert not {*ran[before:]} & {*accepted}, "what is finished ran again"
    lines = [json.loads(line) for line in (folder / "run/results.jsonl").read_bytes().splitlines()]
    artifacts = [*folder.glob("run/tasks/*/attempt-*/artifacts/answer")]
    assert all(path.stat().st_size == ARTIFACT for path in artifacts)
    return {
        "free": free,
        "ends": [first, second, last],
        "found": sorted(found),
        "lines": sorted(line["key"] for line in lines),
    }


def use_the_command_line(folder: Path, free: int) -> dict[str, Any]:
    """Do the same with `paddock map`."""
    (folder / "tasks.jsonl").write_text("\n".join(map(json.dumps, TASKS)))
    shutil.rmtree(folder / "run", ignore_errors=True)
    filler = folder / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(folder).free - free))
    begin = ["tasks.jsonl", "--out", "run", "--isolation", "none", "--limit", "1"]
    begin += ["--artifact", "answer", "--", "sh", "-c", f"yes | head -c {ARTIFACT} > answer"]
    first = paddock(folder, "map", *begin)
    filler.unlink()
    last = paddock(folder, "map", "--resume", "run")
    return {"codes": [first.returncode, last.returncode], "said": first.stderr}


def paddock(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paddock", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def main() -> None:
    folder = Path(sys.argv[1])
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    for free in sys.argv[2:]:
        sys.stdout.write(f"{json.dumps(fill_and_mend(folder, int(free)))}\n")
    sys.stdout.write(f"{json.dumps(use_the_command_line(folder, 400_000))}\n")


main()
