"""A backend of your own: its sandboxes are fresh directories, wherever a command leads.

    python examples/via_backend.py [kubectl exec -i POD -- sh -c]

It has three methods: make a sandbox, start a program in it, take it down. Files, searches,
transfers, timeouts and agents' tools come with `ShellSandbox`. Without a command the directories
are this machine's. A directory is no fence: commands may do what their account may.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from paddock import Backend, ConfigError, ShellSandbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock import ProgressCallback, Sandbox


@dataclass(frozen=True, kw_only=True)
class ViaBackend(Backend):
    """`via` is a command that runs its last argument in a shell of the other place."""

    name: ClassVar[str] = "via"

    via: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.working_dir is not None:
            raise ConfigError("working_dir: the sandboxes of this backend get a fresh directory")

    async def _make(self, on_progress: ProgressCallback) -> Sandbox:
        name = f"paddock-via-{secrets.token_hex(8)}"
        return await ViaSandbox(self, name, working_dir=f"/tmp/{name}").ready()


class ViaSandbox(ShellSandbox):
    """Owns a directory of the other place, and what runs there."""

    def __init__(self, recipe: ViaBackend, name: str, *, working_dir: str) -> None:
        super().__init__(recipe, name, working_dir=working_dir)
        self._via = recipe.via

    async def _open(self, argv: Sequence[str], user: str | None = None) -> Process:
        # In a session of its own, a Ctrl-C in our terminal is not meant for it.
        line = shlex.join(argv)
        return await asyncio.create_subprocess_exec(
            *self._via, line, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
        )

    async def _close(self) -> None:
        await self.call("rm", "-rf", str(self.working_dir))


async def main() -> None:
    via = tuple(sys.argv[1:]) or ("sh", "-c")
    async with ViaBackend(via=via, env_vars={"NAME": "world"}).sandbox() as sandbox:
        await sandbox.fs.write_text("notes/hello.txt", "hello\n")
        result = await sandbox.exec('cat notes/hello.txt; echo "$NAME"; pwd', timeout=30)
        print(result.stdout, end="")
        for line in (await sandbox.fs.grep("hel+o")).lines:
            print(f"{line.path}:{line.line}: {line.text}")


if __name__ == "__main__":
    asyncio.run(main())
