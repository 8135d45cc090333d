"""Find files by name and lines by pattern, with ripgrep where the sandbox has it.

Both ways find the same: ripgrep only goes faster. What it does not take (a pattern
with a look-around, an option that it is too old for) is searched without it. They
differ where a pattern's dot or set meets bytes that are not UTF-8: ripgrep's takes none.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import re
import stat
import subprocess
import threading
from collections import deque

from .files import open_regular
from .globs import compiled, widened
from .programs import find_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import IO, Any

    Args = dict[str, Any]
    Hit = list[Any] | str
    """[path, line number, text, whether it matches]; lines of context do not. After these, the
    path of a file that is too long, in which the search ends."""
    Wanted = Callable[[str], object]
    """Whether a path relative to the root is one of those asked for."""

LINE_SHOWN = 2000
"""Bytes of one found line that are sent."""
LINE_MAX = 4 * 1024 * 1024
"""Bytes of a line; none that is longer is searched, as no person has written it."""
RECORD_MAX = 8 * LINE_MAX
"""Bytes of a line as ripgrep tells it: it may need six for one."""
FILES_MAX = 1_000_000
"""Files below a directory that are looked at: more is no project, and a tree may be endless."""
WIDENED_MAX = 16
"""Simplified globs that ripgrep is given; with more of them it looks at all files."""


def entries_below(root: str, skipped: set[str]) -> Iterator[os.DirEntry[str]]:
    """All files and links below `root`, in the order of its path's names.

    What is neither, such as a FIFO, is nothing to read; links may lead to it.
    """
    waiting = [iter(sorted_entries(root))]
    left = FILES_MAX
    while waiting:
        item = next(waiting[-1], None)
        if item is None:
            waiting.pop()
        elif not item.is_dir(follow_symlinks=False):
            left -= 1
            if left < 0:
                told = f"There are more than {FILES_MAX} files; search a directory below"
                raise OSError(errno.EFBIG, told, root)
            if item.is_file(follow_symlinks=False) or item.is_symlink():
                yield item
        elif item.name not in skipped:
            with contextlib.suppress(OSError):  # gone, or not ours to read
                waiting.append(iter(sorted_entries(item.path)))


def sorted_entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return sorted(found, key=lambda item: os.fsencode(item.name))


def glob(args: Args) -> Iterator[dict[str, Any]]:
    pattern = compiled(args["pattern"])
    root = os.path.join(args["path"], "")
    found = [item.path[len(root) :] for item in entries_below(root, set(args["skipped"]))]
    matching = sorted(path for path in found if pattern.fullmatch(path))
    yield {"total": len(matching), "paths": matching[: args["limit"]]}


def grep(args: Args) -> Iterator[Hit | None]:
    """The hits in order of path and line; then, if there are more than `limit`, null."""
    root = args["path"]
    sized = True
    if stat.S_ISDIR(os.stat(root).st_mode):
        os.scandir(root).close()  # what cannot be read is an error, not a search in vain
        wanted = compiled(args["glob"]).fullmatch if args["glob"] else None
    else:
        sized = size_of(root) > 0
        wanted = None
    # What says that it has no size may never end, or wait, as files of /proc do.
    search = files_with_hits if sized else plain_grep
    return limited(search(args, wanted), args["limit"])


def size_of(path: str) -> int:
    """The size of a regular file that can be read."""
    fd = open_regular(path)
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def files_with_hits(args: Args, wanted: Wanted | None) -> Iterator[list[Hit]]:
    try:
        yield from ripgrep(find_program("rg", args["search_path"] or os.defpath), args, wanted)
    except (FileNotFoundError, NotUnderstood):
        yield from plain_grep(args, wanted)


def limited(files: Iterable[list[Hit]], limit: int) -> Iterator[Hit | None]:
    """Hits of one file after the other, cut off after `limit` matches."""
    found = 0
    for hits in files:
        for hit in hits:
            if isinstance(hit, str):
                yield hit
                return
            found += hit[3]
            if found > limit:
                yield None
                return
            yield hit


def pieces_of(file: IO[bytes], longest: int) -> Iterator[tuple[bytes, bool]]:
    """The lines of a file, and whether they are whole: one that is too long comes in parts."""
    whole = True
    for piece in iter(lambda: file.readline(longest), b""):
        ended = piece.endswith(b"\n")
        yield piece, whole and (ended or len(piece) < longest)
        whole = ended


def clipped(line: bytes) -> str:
    line = line[:-1] if line.endswith(b"\n") else line
    line = line[:-1] if line.endswith(b"\r") else line
    text = line[:LINE_SHOWN].decode("utf-8", "replace")
    return text + "..." if len(line) > LINE_SHOWN else text


# --------------------------------------------------------------------------- ripgrep


RIPGREP_FACTOR = 16
"""How many times as much of a file ripgrep reads before it is ended: it is that much faster."""
LOOK = 0.1
"""Seconds between two looks at how far ripgrep has read: a few hundred megabytes."""
REFUSED = 2
"""Ripgrep's exit code for a pattern or option that it does not take. With a summary, it
only means that some files could not be read."""


class NotUnderstood(Exception):
    """Ripgrep takes no such pattern or option, or cannot be run."""


def ripgrep(program: str, args: Args, wanted: Wanted | None) -> Iterator[list[Hit]]:
    root = args["path"]
    is_folder = os.path.isdir(root)
    try:
        process = subprocess.Popen(
            [program, *ripgrep_options(args, is_folder=is_folder)],
            cwd=root if is_folder else "/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        raise NotUnderstood from None
    reading = Reading(process, RIPGREP_FACTOR * args["most"])
    with process:
        assert process.stdout is not None
        try:
            reading.watch()
            whole = yield from ripgrep_hits(process.stdout, args, wanted if is_folder else None)
            process.stdout.close()
            status = process.wait()
        finally:
            process.kill()
            reading.ended.set()
    if reading.too_long and not whole:
        yield [reading.too_long]
        return
    if status == REFUSED and not whole:
        raise NotUnderstood
    if not whole:
        raise OSError(errno.EIO, f"The search was ended early ({status})", root)


class Reading(threading.Thread):
    """Ends ripgrep when it has read more than `most` bytes of a file, and has its path then."""

    def __init__(self, process: subprocess.Popen[bytes], most: int) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.too_long = ""
        self._process = process
        self._most = most

    def watch(self) -> None:
        """Begin. Raise `NotUnderstood` where there can be no more threads."""
        try:
            self.start()
        except RuntimeError:
            raise NotUnderstood from None

    def run(self) -> None:
        while not self.ended.wait(LOOK):
            with contextlib.suppress(OSError, ValueError):  # it has closed a file, or ended
                self.too_long = self._look()
            if self.too_long:
                self._process.kill()
                return

    def _look(self) -> str:
        place = f"/proc/{self._process.pid}"
        for number in os.listdir(f"{place}/fdinfo"):
            with open(f"{place}/fdinfo/{number}") as info:
                position = int(info.readline().split()[1])
            if position > self._most:
                return os.readlink(f"{place}/fd/{number}")
        return ""


def ripgrep_options(args: Args, *, is_folder: bool) -> list[str]:
    options = [
        "--json",
        "--no-config",
        "--no-ignore",
        "--hidden",
        "--no-mmap",  # else it looks for binary contents in the beginning only
        "--encoding=none",
        "--sort=path",
        "--ignore-case" if args["ignore_case"] else "--case-sensitive",
        f"--context={args['context']}",
    ]
    if is_folder:
        globs = widened(args["glob"]) if args["glob"] else []
        options += [f"--glob={glob}" for glob in globs if len(globs) <= WIDENED_MAX]
        options += [f"--glob=!**/{name}/" for name in args["skipped"]]  # the last that fits counts
    return [*options, f"--regexp={args['pattern']}", "--", "./" if is_folder else args["path"]]


def ripgrep_hits(
    out: IO[bytes], args: Args, wanted: Wanted | None
) -> Generator[list[Hit], None, bool]:
    """The hits of each file; returns whether all were told that are asked for."""
    hits: list[Hit] = []
    matches = 0
    path, relevant = "", False
    for line, whole in pieces_of(out, RECORD_MAX):
        if not whole:
            continue
        record = json.loads(line)
        kind, data = record["type"], record["data"]
        if kind == "summary":
            return True
        if kind == "begin":
            hits, matches = [], 0
            name = os.fsdecode(raw(data["path"]))
            name = name[2:] if name.startswith("./") else name
            path = os.path.join(args["path"], name)
            relevant = wanted is None or bool(wanted(name))
        elif not relevant:
            continue
        elif kind == "end":
            if data["binary_offset"] is None:
                yield hits
            hits = []
        elif is_line(text := raw(data["lines"])):
            hits.append([path, data["line_number"], clipped(text), kind == "match"])
            matches += kind == "match"
            if matches > args["limit"]:
                yield hits  # more is not asked for
                return True
    yield hits  # of the file in which it was ended
    return False


def raw(value: dict[str, str]) -> bytes:
    return value["text"].encode() if "text" in value else base64.b64decode(value["bytes"])


def is_line(line: bytes) -> bool:
    """Whether `pieces_of` would give it whole."""
    return len(line) < LINE_MAX + line.endswith(b"\n")


# ----------------------------------------------------------------------- without it


def plain_grep(args: Args, wanted: Wanted | None) -> Iterator[list[Hit]]:
    try:
        pattern = re.compile(args["pattern"], re.IGNORECASE if args["ignore_case"] else 0)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"bad pattern: {error}") from None
    for path in searched_files(args, wanted):
        try:
            with open(open_regular(path), "rb") as file:
                yield file_hits(file, path, pattern, args)
        except OSError:
            continue  # gone, or not ours to read


def searched_files(args: Args, wanted: Wanted | None) -> Iterator[str]:
    root = args["path"]
    if not os.path.isdir(root):
        yield root
        return
    below = len(os.path.join(root, ""))
    for item in entries_below(root, set(args["skipped"])):
        if item.is_file(follow_symlinks=False) and (wanted is None or wanted(item.path[below:])):
            yield item.path


def file_hits(file: IO[bytes], path: str, pattern: re.Pattern[str], args: Args) -> list[Hit]:
    """A file's hits, up to one match more than is asked for; none if it is no text."""
    hits: list[Hit] = []
    before: deque[tuple[int, bytes | None]] = deque(maxlen=args["context"])
    number, after, matches, size = 1, 0, 0, 0
    for piece, whole in pieces_of(file, LINE_MAX):
        size += len(piece)
        if size > args["most"]:
            return [*hits, path]
        if b"\0" in piece:
            return []
        if whole and pattern.search(searchable(piece)):
            hits += [[path, at, clipped(line), False] for at, line in before if line is not None]
            hits.append([path, number, clipped(piece), True])
            before.clear()
            after = args["context"]
            matches += 1
            if matches > args["limit"]:
                break
        elif after and whole:
            hits.append([path, number, clipped(piece), False])
            after -= 1
        elif piece.endswith(b"\n"):
            before.append((number, piece if whole else None))
            after = max(after - 1, 0)
        number += piece.endswith(b"\n")
    return hits


def searchable(line: bytes) -> str:
    line = line[:-1] if line.endswith(b"\n") else line
    return line.decode("utf-8", "surrogateescape")
