"""A backend of your own: its sandboxes are fresh directories of another machine, over ssh.

    python examples/ssh_backend.py [HOST]

It has three methods: make a sandbox, start a program in it, take it down. Files, searches,
transfers, timeouts and agents' tools come with `ShellSandbox`. Without a HOST this machine is
the other one. A directory is no fence: commands may do what their account may.
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
class SshBackend(Backend):
    """`via` is a command that runs its last argument in a shell of the other machine."""

    name: ClassVar[str] = "ssh"

    via: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.working_dir is not None:
            raise ConfigError("working_dir: the sandboxes of this backend get a fresh directory")

    async def _make(self, on_progress: ProgressCallback) -> Sandbox:
        name = f"paddock-ssh-{secrets.token_hex(8)}"
        return await SshSandbox(self, name, working_dir=f"/tmp/{name}").ready()


class SshSandbox(ShellSandbox):
    """Owns a directory of the other machine, and what runs there."""

    def __init__(self, recipe: SshBackend, name: str, *, working_dir: str) -> None:
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
    via = ("ssh", "-T", "-o", "BatchMode=yes", sys.argv[1]) if sys.argv[1:] else ("sh", "-c")
    async with SshBackend(via=via, env_vars={"NAME": "world"}).sandbox() as sandbox:
        await sandbox.fs.write_text("notes/hello.txt", "hello\n")
        result = await sandbox.exec('cat notes/hello.txt; echo "$NAME"; pwd', timeout=30)
        print(result.stdout, end="")
        for line in (await sandbox.fs.grep("hel+o")).lines:
            print(f"{line.path}:{line.line}: {line.text}")


if __name__ == "__main__":
    asyncio.run(main())
