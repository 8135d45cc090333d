"""Run scripts in a sandbox, and raise the errors that they print."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from paddock.backends.posix.writing import CHANGED
from paddock.backends.transfer import streamed_write
from paddock.backends.users import unknown_user
from paddock.errors import FileChanged, Unsupported
from paddock.sandbox import Command

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from paddock.files import FileWriter
    from paddock.sandbox import ExecResult, Sandbox

__all__ = ["ANSWER_MAX", "Shell"]

ANSWER_MAX = 64 * 1024 * 1024
"""Bytes of an answer that is held in memory."""
STDERR_MAX = 64 * 1024
ENVIRONMENT = {"LC_ALL": "C"}
"""Lets tools print their errors in English."""
NOT_FOUND = 127
ERRORS = {
    os.strerror(number): number
    for number in (
        errno.EACCES, errno.EBUSY, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.EINVAL,
        errno.EIO, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOSPC,
        errno.ENOTDIR, errno.ENOTEMPTY, errno.EPERM, errno.EROFS, errno.ETXTBSY, errno.EXDEV,
    )
} | {
    # as musl says it
    "Cross-device link": errno.EXDEV,
    "Filename too long": errno.ENAMETOOLONG,
    "I/O error": errno.EIO,
    "Quota exceeded": errno.EDQUOT,
    "Resource busy": errno.EBUSY,
    "Symbolic link loop": errno.ELOOP,
    # as we do
    "A directory is in the way": errno.EISDIR,
    "A file or link is in the way": errno.EEXIST,
    "Not a regular file": errno.EINVAL,
}  # fmt: skip
MISSING = re.compile(r"([\w.+-]+): (?:command )?not found", re.ASCII)
UNKNOWN = re.compile(r"(?:invalid|unknown) (?:user|group):? ['\"\u2018]?:?([^'\"\u2019:]+)")
"""What chown prints for an unknown name."""


class Shell:
    """Runs scripts by `Sandbox._start`, with the environment of the image alone.

    What a recipe adds to that, such as another PATH, is for commands.
    """

    def __init__(self, sandbox: Sandbox, user: str | None = None) -> None:
        self._sandbox = sandbox
        self._user = user

    async def run(
        self, script: str, path: str, *args: str, cwd: str = "/", keep: int = ANSWER_MAX
    ) -> bytes:
        """The output of a script whose first argument is `path`, which its errors are about.

        Raises `OSError`; of `errno.EFBIG` for an output of more than `keep` bytes.
        """
        command = self._command(script, (path, *args), cwd=cwd, streamed=False, keep=keep)
        process = await self._sandbox._start(command)
        try:
            result = await process.wait()
        except BaseException:
            await process.aclose()
            raise
        self._check(result, path)
        if result.out.dropped:
            raise OSError(errno.EFBIG, "More was found than can be sent; narrow it down", path)
        return result.stdout_bytes

    async def stream(
        self,
        script: str,
        path: str,
        *args: str,
        cwd: str = "/",
        harmless: re.Pattern[str] | None = None,
    ) -> AsyncGenerator[bytes]:
        """The same, by pieces; slow to take them slows the script.

        A script that fails and prints only lines with a `harmless` message has not failed.
        """
        command = self._command(script, (path, *args), cwd=cwd, streamed=True, keep=STDERR_MAX)
        async with await self._sandbox._start(command) as process:
            async for stream, data in process.output():
                if stream == "stdout":
                    yield data
            result = await process.wait()
            lines = result.err.text.splitlines()
            if harmless is None or not lines or not all(map(harmless.search, lines)):
                self._check(result, path)

    @contextlib.asynccontextmanager
    async def write(
        self, mark: str, script: str, path: str, *args: str
    ) -> AsyncGenerator[FileWriter]:
        """Run a script that says when it takes its stdin, which ends with `mark`."""
        command = self._command(script, (path, *args), cwd="/", stdin=True, streamed=True)
        process = await self._sandbox._start(command)
        async with streamed_write(process, mark, lambda result: self._check(result, path)) as file:
            yield file

    async def feed(self, pieces: AsyncGenerator[bytes], script: str, path: str, *args: str) -> None:
        """Run a script with `pieces` as its stdin."""
        command = self._command(script, (path, *args), cwd="/", stdin=True, streamed=False)
        async with contextlib.aclosing(pieces), await self._sandbox._start(command) as process:
            with contextlib.suppress(BrokenPipeError):  # the script has ended, and says why
                async for piece in pieces:
                    await process.send(piece)
                await process.send_eof()
            self._check(await process.wait(), path)

    def _command(
        self,
        script: str,
        args: tuple[str, ...],
        *,
        cwd: str,
        stdin: bool = False,
        streamed: bool,
        keep: int = ANSWER_MAX,
    ) -> Command:
        return Command(
            argv=("sh", "-c", script, "paddock", *args),
            cwd=PurePosixPath(cwd),
            env=ENVIRONMENT,
            user=self._user,
            stdin=stdin,
            streamed=streamed,
            keep=keep,
        )

    def _check(self, result: ExecResult, path: str) -> None:
        if result.exit_code != 0:
            _raise(result, path, self._sandbox.backend)


def _raise(result: ExecResult, path: str, backend: str) -> None:
    """Raise the error that a script has printed."""
    lines = result.err.text.splitlines()
    if CHANGED in lines:
        raise FileChanged(f"{path} is not as it was read")
    if result.exit_code == NOT_FOUND:
        found = MISSING.search(result.err.text)
        tool = found[1] if found else "a tool that it takes"
        raise Unsupported(f"this in a sandbox that has no {tool!r}", backend=backend)
    if unknown := next(filter(None, map(UNKNOWN.search, lines)), None):
        raise unknown_user(unknown[1])
    for line in lines:
        for text, number in ERRORS.items():
            if line.endswith(text):
                raise OSError(number, text, path)
    raise OSError(errno.EIO, lines[-1] if lines else f"ended with {result.exit_code}", path)
