"""Find files by name and lines by pattern, with ripgrep where the sandbox has it."""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import shutil
import stat
import subprocess

from .files import open_regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Args = dict[str, Any]
    Found = Iterator[list[Any] | None]


def walk_files(root: str, skipped: set[str]) -> Iterator[str]:
    """Every file below `root` as a path relative to it, sorted within its directory."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as found:
                entries = sorted(found, key=lambda item: item.name)
        except OSError:
            if not folder:
                raise
            continue
        below = []
        for item in entries:
            path = os.path.join(folder, item.name)
            if item.is_dir(follow_symlinks=False):
                if item.name not in skipped:
                    below.append(path)
            else:
                yield path
        waiting += reversed(below)


def glob_pattern(pattern: str) -> re.Pattern[str]:
    """A glob as a compiled regular expression over relative paths.

    ``*`` and ``?`` stay within a name, ``**`` spans directories, ``[...]`` is a
    set, ``{a,b}`` an alternative. Without a slash it matches names at any depth.
    """
    if "/" not in pattern:
        pattern = "**/" + pattern
    pattern = pattern[2:] if pattern.startswith("./") else pattern
    out, depth, at = [], 0, 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            if pattern.startswith("*/", at):
                out.append("(?:[^/]+/)*")
                at += 2
            elif pattern.startswith("*", at):
                out.append(".*")
                at += 1
            else:
                out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            end = pattern.find("]", at + 1)
            if end < 0:
                out.append("\\[")
            else:
                inner = pattern[at:end].replace("\\", "\\\\")
                out.append("[" + ("^" + inner[1:] if inner[0] == "!" else inner) + "]")
                at = end + 1
        elif char == "{":
            depth += 1
            out.append("(?:")
        elif char == "}" and depth:
            depth -= 1
            out.append(")")
        elif char == "," and depth:
            out.append("|")
        else:
            out.append(re.escape(char))
    try:
        return re.compile("".join(out) + ")" * depth, re.DOTALL)
    except re.error as error:
        raise ValueError(f"bad glob pattern: {error}") from None


def glob(args: Args) -> Iterator[dict[str, Any]]:
    pattern = glob_pattern(args["pattern"])
    root = args["path"]
    if not stat.S_ISDIR(os.stat(root).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), root)
    matching = [path for path in walk_files(root, set(args["skipped"])) if pattern.fullmatch(path)]
    matching.sort()
    limit = args["limit"]
    yield {"total": len(matching), "paths": matching[:limit]}


def grep(args: Args) -> Found:
    path = args["path"]
    os.stat(path)  # a missing path is an error, not a search that found nothing
    searcher = shutil.which("rg", path=args["search_path"])
    return ripgrep(searcher, args) if searcher else plain_grep(args)


def ripgrep(searcher: str, args: Args) -> Found:
    """Search with ripgrep; yields [path, line, text, is a match] and, when cut off, null."""
    command = [searcher, "--json", "--no-config", "--no-ignore", "--hidden", "--sort=path"]
    command += ["--ignore-case"] if args["ignore_case"] else []
    command += [f"--context={args['context']}"] if args["context"] else []
    for name in args["skipped"]:
        command += [f"--glob=!**/{name}/**"]
    command += ["--glob=" + args["glob"]] if args["glob"] else []
    command += ["--regexp=" + args["pattern"], "--", args["path"]]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        found = 0
        for line in process.stdout:
            record = json.loads(line)
            if record["type"] not in ("match", "context"):
                continue
            data = record["data"]
            is_match = record["type"] == "match"
            found += is_match
            if found > args["limit"]:
                process.kill()
                yield None
                return
            text = raw(data["lines"]).rstrip(b"\r\n")
            path = os.fsdecode(raw(data["path"]))
            yield [path, data["line_number"], clipped(text), is_match]
        complaint = process.stderr.read().decode("utf-8", "replace")
    if process.returncode == 2 and not found and "regex" in complaint:
        raise ValueError("bad pattern: " + complaint.strip())


def raw(value: dict[str, str]) -> bytes:
    return value["text"].encode() if "text" in value else base64.b64decode(value["bytes"])


LINE_SHOWN = 2000
"""Bytes of one found line that are sent."""
GREP_FILE_MAX = 64 * 1024 * 1024
"""Without ripgrep a larger file is passed over: it is no text that a person wrote."""


def clipped(line: bytes) -> str:
    text = line[:LINE_SHOWN].decode("utf-8", "replace")
    return text + "..." if len(line) > LINE_SHOWN else text


def plain_grep(args: Args) -> Found:
    """The same search in Python, where there is no ripgrep."""
    try:
        flags = re.IGNORECASE if args["ignore_case"] else 0
        pattern = re.compile(args["pattern"].encode("utf-8", "surrogateescape"), flags)
    except re.error as error:
        raise ValueError(f"bad pattern: {error}") from None
    found = 0
    for path in searched_files(args):
        for number, line, is_match in matching_lines(path, pattern, args["context"]):
            found += is_match
            if found > args["limit"]:
                yield None
                return
            yield [path, number, clipped(line.rstrip(b"\r")), is_match]


def searched_files(args: Args) -> Iterator[str]:
    root = args["path"]
    if not os.path.isdir(root):
        yield root
        return
    wanted = glob_pattern(args["glob"]) if args["glob"] else None
    for path in walk_files(root, set(args["skipped"])):
        if wanted is None or wanted.fullmatch(path):
            yield os.path.join(root, path)


def matching_lines(
    path: str, pattern: re.Pattern[bytes], context: int
) -> Iterator[tuple[int, bytes, bool]]:
    """[number, line, is a match] for a text file's matching lines and those around them."""
    try:
        with open(open_regular(path), "rb") as file:
            if os.fstat(file.fileno()).st_size > GREP_FILE_MAX:
                return
            contents = file.read()
    except OSError:
        return  # unreadable or special: searched by nobody
    if b"\0" in contents[:8192] or pattern.search(contents) is None:
        return
    lines = contents.split(b"\n")
    if not lines[-1]:
        lines.pop()
    hits = [number for number, line in enumerate(lines) if pattern.search(line)]
    shown: dict[int, bool] = {}
    for hit in hits:
        for number in range(max(0, hit - context), min(len(lines), hit + context + 1)):
            shown.setdefault(number, False)
        shown[hit] = True
    for number in sorted(shown):
        yield number + 1, lines[number], shown[number]
