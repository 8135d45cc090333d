"""The few programs that a sandbox in memory has without a script."""

from __future__ import annotations

import asyncio
import math
import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from paddock.testing.fake.script import read_all
from paddock.testing.fake.tree import Folder, Link, Special

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from paddock.testing.fake.jobs import Job, Sink, Source, Table
    from paddock.testing.fake.tree import Tree

__all__ = ["PROGRAMS", "Context"]

BLOCK = 8192
"""Bytes that `yes` and `head` write at once."""


@dataclass(slots=True, kw_only=True)
class Context:
    """What a program sees."""

    tree: Tree
    table: Table
    job: Job
    env: Mapping[str, str]
    cwd: PurePosixPath
    stdin: Source
    stdout: Sink
    stderr: Sink

    def path(self, name: str) -> PurePosixPath:
        """Return an absolute path."""
        return PurePosixPath(os.path.normpath(self.cwd / name))

    async def say(self, text: str) -> int:
        """Complain; return the exit code for it."""
        await self.stderr.write(f"{self.job.words[0]}: {text}\n".encode(errors="surrogateescape"))
        return 1


Program = "Callable[[Context, Sequence[str]], Awaitable[int]]"


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


async def _echo(context: Context, words: Sequence[str]) -> int:
    if words[:1] == ["-n"]:
        await context.stdout.write(_bytes(" ".join(words[1:])))
    else:
        await context.stdout.write(_bytes(" ".join(words) + "\n"))
    return 0


async def _printf(context: Context, words: Sequence[str]) -> int:
    form, *rest = words or [""]
    for old, new in (("\\n", "\n"), ("\\0", "\0"), ("\\t", "\t")):
        form = form.replace(old, new)
    values = list(rest)
    written = ""
    while True:
        written += re.sub(r"%[sd]", lambda _: values.pop(0) if values else "", form)
        if not values or "%" not in form:
            break
    await context.stdout.write(_bytes(written))
    return 0


async def _cat(context: Context, words: Sequence[str]) -> int:
    names = [word for word in words if word != "--"]
    for name in names:
        await context.stdout.write(context.tree.file(context.path(name)).data)
    if not names:
        while data := await context.stdin.read():
            await context.stdout.write(data)
    return 0


async def _true(context: Context, words: Sequence[str]) -> int:
    return 0


async def _false(context: Context, words: Sequence[str]) -> int:
    return 1


async def _sleep(context: Context, words: Sequence[str]) -> int:
    seconds = float(words[0])
    # A loop takes no deadline beyond its clock's range.
    await (asyncio.Event().wait() if seconds == math.inf else asyncio.sleep(seconds))
    return 0


async def _env(context: Context, words: Sequence[str]) -> int:
    lines = (f"{name}={value}\n" for name, value in context.env.items())
    await context.stdout.write(_bytes("".join(lines)))
    return 0


async def _pwd(context: Context, words: Sequence[str]) -> int:
    await context.stdout.write(f"{context.cwd}\n".encode())
    return 0


async def _seq(context: Context, words: Sequence[str]) -> int:
    first, last = (int(words[0]), int(words[1])) if len(words) > 1 else (1, int(words[0]))
    for start in range(first, last + 1, BLOCK):
        numbers = range(start, min(start + BLOCK, last + 1))
        await context.stdout.write("".join(f"{number}\n" for number in numbers).encode())
    return 0


async def _head(context: Context, words: Sequence[str]) -> int:
    """`head -c SIZE [FILE]`, of which ``/dev/zero`` is one."""
    left = _size(words[1])
    if words[2:] == ["/dev/zero"]:
        while left:
            await context.stdout.write(bytes(min(left, BLOCK * 16)))
            left -= min(left, BLOCK * 16)
    elif len(words) > 2:
        await context.stdout.write(context.tree.file(context.path(words[2])).data[:left])
    else:
        while left and (data := await context.stdin.read()):
            await context.stdout.write(data[:left])
            left -= min(left, len(data))
    return 0


def _size(text: str) -> int:
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


async def _wc(context: Context, words: Sequence[str]) -> int:
    data = await read_all(context.stdin)
    counted = {"-c": len(data), "-l": data.count(b"\n")}
    await context.stdout.write(f"{counted[words[0]]}\n".encode())
    return 0


async def _yes(context: Context, words: Sequence[str]) -> int:
    line = _bytes((" ".join(words) or "y") + "\n")
    while True:
        await context.stdout.write(line * (BLOCK // len(line) or 1))


async def _mkdir(context: Context, words: Sequence[str]) -> int:
    parents = "-p" in words
    for name in _names(words):
        context.tree.make_folder(context.path(name), parents=parents, exist_ok=parents)
    return 0


async def _touch(context: Context, words: Sequence[str]) -> int:
    for name in _names(words):
        path = context.path(name)
        try:
            context.tree.find(path)
        except FileNotFoundError:
            context.tree.folder(path.parent)
            context.tree.write(path, b"")
    return 0


async def _rm(context: Context, words: Sequence[str]) -> int:
    force = any(word.startswith("-") and "f" in word for word in words)
    for name in _names(words):
        try:
            context.tree.remove(context.path(name), recursive=any("r" in word for word in words))
        except FileNotFoundError:
            if not force:
                raise
    return 0


async def _ln(context: Context, words: Sequence[str]) -> int:
    target, name = _names(words)
    folder, last = context.tree.place(context.path(name), follow=False)
    if words[0] == "-s":
        folder.entries[last] = Link(mode=0o777, target=target)
    else:
        file = context.tree.file(context.path(target))
        file.names += 1
        folder.entries[last] = file
    return 0


async def _mkfifo(context: Context, words: Sequence[str]) -> int:
    for name in _names(words):
        folder, last = context.tree.place(context.path(name))
        folder.entries[last] = Special(mode=0o644)
    return 0


async def _chmod(context: Context, words: Sequence[str]) -> int:
    for name in words[1:]:
        context.tree.find(context.path(name)).mode = int(words[0], 8)
    return 0


async def _ls(context: Context, words: Sequence[str]) -> int:
    names = _names(words) or ["."]
    for number, name in enumerate(names):
        if len(names) > 1:
            await context.stdout.write(_bytes("\n" * bool(number) + f"{name}:\n"))
        entries = sorted(context.tree.folder(context.path(name)).entries)
        shown = [entry for entry in entries if "-A" in words or not entry.startswith(".")]
        await context.stdout.write(_bytes("".join(f"{entry}\n" for entry in shown)))
    return 0


async def _readlink(context: Context, words: Sequence[str]) -> int:
    found = context.tree.find(context.path(words[0]), follow=False)
    if not isinstance(found, Link):
        return 1
    await context.stdout.write(_bytes(found.target + "\n"))
    return 0


async def _test(context: Context, words: Sequence[str]) -> int:
    words = [word for word in words if word != "]"]
    if len(words) == 3:
        return int((words[0] == words[2]) != (words[1] == "="))
    kind, value = words
    if kind in ("-n", "-z"):
        return int(bool(value) != (kind == "-n"))
    try:
        found = context.tree.find(context.path(value))
    except OSError:
        return 1
    return int(not {"-e": True, "-d": isinstance(found, Folder)}.get(kind, _is_file(found)))


def _is_file(found: object) -> bool:
    return not isinstance(found, Folder | Link | Special)


async def _kill(context: Context, words: Sequence[str]) -> int:
    number = int(words[0][1:]) if words[0].startswith("-") else 15
    for word in (word for word in words if not word.startswith("-")):
        job = context.table.jobs.get(int(word))
        if job is None:
            return await context.say(f"{word}: no such process")
        if number:
            job.kill(number)
    return 0


async def _pgrep(context: Context, words: Sequence[str]) -> int:
    """`pgrep [-a] [-f] PATTERN`: by the name, or with ``-f`` by all words."""
    flags = "".join(word for word in words if word.startswith("-"))
    (pattern,) = _names(words)
    found = [
        job
        for job in context.table.jobs.values()
        if job is not context.job
        and re.search(pattern, " ".join(job.words) if "f" in flags else job.words[0])
    ]
    lines = (f"{job.pid} {' '.join(job.words)}" if "a" in flags else f"{job.pid}" for job in found)
    await context.stdout.write(_bytes("".join(f"{line}\n" for line in lines)))
    return int(not found)


def _names(words: Sequence[str]) -> list[str]:
    return [word for word in words if not word.startswith("-")]


PROGRAMS: dict[str, Callable[[Context, Sequence[str]], Awaitable[int]]] = {
    "[": _test,
    "cat": _cat,
    "chmod": _chmod,
    "echo": _echo,
    "env": _env,
    "false": _false,
    "head": _head,
    "kill": _kill,
    "ln": _ln,
    "ls": _ls,
    "mkdir": _mkdir,
    "mkfifo": _mkfifo,
    "pgrep": _pgrep,
    "printf": _printf,
    "pwd": _pwd,
    "readlink": _readlink,
    "rm": _rm,
    "seq": _seq,
    "sleep": _sleep,
    "test": _test,
    "touch": _touch,
    "true": _true,
    "wc": _wc,
    "yes": _yes,
}
