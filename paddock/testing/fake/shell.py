"""Runs commands in a sandbox in memory: scripted ones, programs, and lines of a small shell."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from typing import TYPE_CHECKING, Any

from paddock.testing.fake.jobs import Pipe, empty
from paddock.testing.fake.programs import PROGRAMS, Context
from paddock.testing.fake.script import FakeCall, reply_of
from paddock.testing.fake.syntax import BadSyntax, Pipeline, Redirect, Simple, Word, parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import PurePosixPath

    from paddock.testing.fake.jobs import Job, Sink
    from paddock.testing.fake.script import Answer, Script
    from paddock.testing.fake.tree import Tree

__all__ = ["run"]

NOT_FOUND = 127
NOT_RUNNABLE = 126
BAD_SYNTAX = 2
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
PREFIXES = frozenset({"exec", "setsid", "nohup", "command"})
"""What stands before a command and changes nothing here."""


class _Exit(Exception):
    """The shell ends with this code."""


async def run(script: Script, context: Context, argv: Sequence[str]) -> int:
    """Run a command to its end and return its exit code."""
    is_line = argv[0] in ("sh", "bash", "/bin/sh") and len(argv) >= 3 and argv[1] == "-c"
    text = argv[2] if is_line else shlex.join(argv)
    answer = script.find(text)
    if answer is not None:
        return await _scripted(answer, context, text, argv)
    if is_line:
        return await _Shell(script, context).run(text)
    return await _program(script, context, argv)


async def _scripted(answer: Answer, context: Context, text: str, argv: Sequence[str]) -> int:
    call = FakeCall(
        text=text, argv=argv, cwd=context.cwd, env=dict(context.env), source=context.stdin
    )
    reply = await reply_of(answer, call)
    await asyncio.sleep(reply.after)
    for sink, data in ((context.stdout, reply.stdout), (context.stderr, reply.stderr)):
        if data:
            await sink.write(data.encode() if isinstance(data, str) else data)
    return reply.exit_code


async def _program(script: Script, context: Context, argv: Sequence[str]) -> int:
    if (answer := script.find(shlex.join(argv))) is not None:
        return await _scripted(answer, context, shlex.join(argv), argv)
    name = argv[0].rpartition("/")[2] if argv[0].startswith(("/bin/", "/usr/bin/")) else argv[0]
    program = PROGRAMS.get(name)
    if program is None and (lines := _file_to_run(context, argv[0])) is not None:
        return await _Shell(script, context).run(lines)
    if program is None:
        return await _missing(context, argv[0])
    try:
        return await program(context, argv[1:])
    except BrokenPipeError:
        raise
    except OSError as error:
        return await context.say(f"{error.filename}: {error.strerror}")
    except (LookupError, ValueError) as error:
        return await context.say(f"the program of FakeBackend does not know this: {error}")


async def _missing(context: Context, name: str) -> int:
    if "/" not in name:
        await context.stderr.write(f"{name}: not found\n".encode(errors="surrogateescape"))
        return NOT_FOUND
    try:
        context.tree.find(context.path(name))
    except OSError:
        await context.stderr.write(f"{name}: No such file or directory\n".encode())
        return NOT_FOUND
    await context.stderr.write(f"{name}: Permission denied\n".encode())
    return NOT_RUNNABLE


def _file_to_run(context: Context, name: str) -> str | None:
    """Return the lines of an executable script of the shell."""
    if "/" not in name:
        return None
    try:
        file = context.tree.file(context.path(name))
    except OSError:
        return None
    return file.data.decode() if file.mode & 0o111 and file.data.startswith(b"#!/bin/sh") else None


class _Shell:
    """One line, or the lines of a script."""

    def __init__(self, script: Script, context: Context) -> None:
        self._script = script
        self._context = context
        self._variables = dict(context.env)
        self._cwd = context.cwd
        self._code = 0
        self._last_background = 0

    async def run(self, text: str) -> int:
        try:
            pipelines = parse(text)
        except BadSyntax as error:
            await self._context.stderr.write(f"sh: {error}\n".encode(errors="surrogateescape"))
            return BAD_SYNTAX
        skipped = False
        try:
            for pipeline in pipelines:
                if not skipped:
                    self._code = await self._pipeline(pipeline)
                skipped = (pipeline.operator == "&&" and self._code != 0) or (
                    pipeline.operator == "||" and self._code == 0
                )
        except _Exit as end:
            (self._code,) = end.args
        return self._code

    async def _pipeline(self, pipeline: Pipeline) -> int:
        background = pipeline.operator == "&"
        if len(pipeline.commands) == 1 and not background:
            return await self._simple(pipeline.commands[0])
        jobs, source = [], empty() if background else self._context.stdin
        for number, command in enumerate(pipeline.commands):
            is_last = number == len(pipeline.commands) - 1
            sink: Sink = self._context.stdout if is_last else Pipe()
            jobs.append(self._job(command, source, sink))
            source = sink if isinstance(sink, Pipe) else source
        if background:
            self._last_background = jobs[-1].pid
            return 0
        codes = [await job.wait() for job in jobs]
        return codes[-1]

    def _job(self, command: Simple, source: Any, sink: Sink) -> Job:
        """Begin a command in a process of its own."""
        words = [self._expand(word) for word in command.words]
        while words and (words[0] in PREFIXES or ASSIGNMENT.match(words[0])):
            words.pop(0)
        job = self._context.table.add(self._context.job.group, words)
        shell = _Shell(self._script, self._of(job, source, sink))
        self._context.table.run(job, shell._alone(command, source, sink))
        return job

    def _of(self, job: Job, source: Any, sink: Sink) -> Context:
        return Context(
            tree=self._context.tree,
            table=self._context.table,
            job=job,
            env=dict(self._variables),
            cwd=self._cwd,
            stdin=source,
            stdout=sink,
            stderr=self._context.stderr,
        )

    async def _alone(self, command: Simple, source: Any, sink: Sink) -> int:
        """Run the one command that a process is there for."""
        try:
            return await self._simple(command, inside=True)
        except _Exit as end:
            code: int = end.args[0]
            return code
        finally:
            source.close()
            if isinstance(sink, Pipe):
                sink.end()

    async def _simple(self, command: Simple, *, inside: bool = False) -> int:
        words = [self._expand(word) for word in command.words]
        given = {}
        while words and ASSIGNMENT.match(words[0]):
            name, _, given[name] = words.pop(0).partition("=")
        if not words:
            self._variables.update(given)
        context = self._of(self._context.job, self._context.stdin, self._context.stdout)
        context.env = {**self._variables, **given}
        try:
            for redirect in command.redirects:
                self._redirect(context, redirect)
        except OSError as error:
            await context.stderr.write(f"sh: {error.filename}: {error.strerror}\n".encode())
            return 1
        return await self._words(context, words, inside=inside) if words else 0

    async def _words(self, context: Context, words: list[str], *, inside: bool) -> int:
        builtin = getattr(self, f"_do_{words[0]}", None)
        if builtin is not None:
            code: int = await builtin(context, words[1:])
            return code
        while words[0] in PREFIXES and len(words) > 1:
            if words[:2] == ["command", "-v"]:
                return int(words[2] not in PROGRAMS)
            words = words[1:]
        if inside:
            return await run(self._script, context, words)
        job = self._context.table.add(self._context.job.group, words)
        context.job = job
        self._context.table.run(job, run(self._script, context, words))
        return await job.wait()

    # builtins

    async def _do_exit(self, context: Context, words: Sequence[str]) -> int:
        raise _Exit(int(words[0]) if words else self._code)

    async def _do_cd(self, context: Context, words: Sequence[str]) -> int:
        path = context.path(words[0] if words else self._variables.get("HOME", "/"))
        try:
            context.tree.folder(path)
        except OSError as error:
            return await context.say(f"{path}: {error.strerror}")
        self._cwd = path
        return 0

    async def _do_export(self, context: Context, words: Sequence[str]) -> int:
        self._variables |= {word.partition("=")[0]: word.partition("=")[2] for word in words}
        return 0

    async def _do_read(self, context: Context, words: Sequence[str]) -> int:
        line = bytearray()
        source = context.stdin
        while b"\n" not in line and (data := await source.read()):
            line += data
        text, found, rest = bytes(line).partition(b"\n")
        if rest and isinstance(source, Pipe):
            source.unread(rest)
        self._variables[words[0]] = text.decode(errors="surrogateescape")
        return int(not found)

    # words and redirections

    def _expand(self, word: Word) -> str:
        return "".join(self._value(part.text) if part.variable else part.text for part in word)

    def _value(self, name: str) -> str:
        special = {
            "?": str(self._code),
            "$": str(self._context.job.pid),
            "!": str(self._last_background),
            "PWD": str(self._cwd),
        }
        return special.get(name, self._variables.get(name, ""))

    def _redirect(self, context: Context, redirect: Redirect) -> None:
        target = self._expand(redirect.target)
        match redirect.operator:
            case ">&":
                sink = {"1": context.stdout, "2": context.stderr}[target]
            case "<":
                context.stdin = _Contents(context.tree.file(context.path(target)).data)
                return
            case ">" | ">>":
                sink = _sink(context.tree, context.path(target), add=redirect.operator == ">>")
            case _:
                context.stdin = empty()
                return
        if redirect.descriptor == 2:
            context.stderr = sink
        else:
            context.stdout = sink


class _Contents:
    """A file as somebody's stdin."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self) -> bytes:
        found, self._data = self._data, b""
        return found

    def close(self) -> None:
        self._data = b""


class _FileSink:
    """A file as somebody's stdout."""

    def __init__(self, tree: Tree, path: PurePosixPath) -> None:
        self._tree = tree
        self._path = path

    async def write(self, data: bytes) -> None:
        self._tree.write(self._path, self._tree.file(self._path).data + data)


class _Nowhere:
    async def write(self, data: bytes) -> None:
        await asyncio.sleep(0)


def _sink(tree: Tree, path: PurePosixPath, *, add: bool) -> Sink:
    if str(path) == os.devnull:
        return _Nowhere()
    tree.folder(path.parent)
    try:
        before = tree.file(path).data if add else b""
    except FileNotFoundError:
        before = b""
    tree.write(path, before)
    return _FileSink(tree, path)
