"""The guest's own jobs: work that takes a while, done in a process like a command's.

So a job is streamed, slowed down and killed exactly as a command is. A job reads
its stdin and writes its stdout; an exception is reported to the host.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from .files import entry, length_of, open_regular, write_all
from .forks import take_signals
from .light import contextmanager, dumps, signal
from .wire import BULK, INLINE, message
from .writing import Addition, Replacement, about

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO, Any, NoReturn

    Args = dict[str, Any]


def run_job(name: str, args: Args, tell: Callable[[BaseException], None]) -> NoReturn:
    """Do a job in this process, which exists for it; `tell` an exception; does not return."""
    # A job that would leave something half made is ended by the end of its stdin, which a
    # kill closes: there is no moment at which that finds it between making and noting.
    # One that reads a file has its own word for it, once it has opened that.
    patient = name in ENDED_BY_STDIN and "source" not in args
    signal.signal(signal.SIGTERM, signal.SIG_IGN if patient else signal.SIG_DFL)
    take_signals()
    try:
        JOBS[name](args)
    except BrokenPipeError:
        os._exit(141)
    except BaseException as error:  # whatever it is, report it to the host
        tell(error)
        os._exit(1)
    os._exit(0)


def emit(records: Iterable[Any]) -> None:
    """Write JSON values to the host, one a line."""
    with open(1, "wb", closefd=False) as out:
        out.writelines(dumps(record).encode() + b"\n" for record in records)


@contextmanager
def source_of(args: Args) -> Iterator[int]:
    """Where a job reads from: stdin, or the file `source`, which goes with the job.

    Of the file, too, a kill is the end.
    """
    if "source" not in args:
        yield 0
        return
    fd = open_regular(args["source"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    signal.signal(signal.SIGTERM, lambda number, stack: os.dup2(nothing, fd))
    try:
        yield fd
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.close(fd)
        os.close(nothing)
        os.unlink(args["source"])


@contextmanager
def target_of(args: Args) -> Iterator[int]:
    """Where a job writes to: stdout, or the new file `target`, whose size is its answer then."""
    if "target" not in args:
        yield 1
        return
    os.makedirs(os.path.dirname(args["target"]), mode=0o700, exist_ok=True)
    fd = os.open(args["target"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        yield fd
        emit([os.fstat(fd).st_size])
    finally:
        os.close(fd)


def pieces_of(fd: int, limit: int | None = None) -> Iterator[memoryview]:
    """What is in `fd`, or its first `limit` bytes.

    Each piece is valid until the next is asked for: they share their memory.
    """
    left = BULK if limit is None else limit
    with memoryview(bytearray(BULK)) as room:
        while left and (size := os.readv(fd, [room[:left]])):
            yield room[:size]
            left = BULK if limit is None else left - size


def marked(pieces: Iterable[memoryview], mark: bytes) -> Iterator[memoryview]:
    """All but `mark` at the very end; `OSError` for an end without it, which is an accident."""
    held = b""
    for piece in pieces:
        held += piece
        yield memoryview(held)[: -len(mark)]
        held = held[-len(mark) :]
    if held != mark:
        raise OSError(errno.EIO, "The stream ended early")


def send_file(args: Args) -> None:
    fd = open_regular(args["path"])
    offset = args.get("offset", 0)
    os.lseek(fd, offset, os.SEEK_SET)
    with target_of(args) as target:
        for piece in pieces_of(fd, max(0, length_of(fd) - offset)):
            write_all(target, piece)


def receive_file(args: Args) -> None:
    with source_of(args) as source:
        pieces = pieces_of(source)
        receive_from(marked(pieces, args["mark"].encode()) if "mark" in args else pieces, args)


def receive_from(pieces: Iterable[memoryview], args: Args) -> None:
    kind = Addition if args.get("append") else Replacement
    writer = kind(args["path"], exclusive=args.get("exclusive", False), mode=args.get("mode"))
    try:
        if "mark" in args:
            write_all(1, b"\n")  # it is open: the sender waits for that
        for piece in pieces:
            with about(args["path"]):
                writer.write(piece)
        if writer.size != args.get("size", writer.size):
            raise OSError(errno.EIO, "The upload ended early", args["path"])
        writer.commit(expect=args.get("expect"))
    finally:
        writer.close()


def call(args: Args) -> None:
    """Do a request as a job, which can have another user's rights."""
    from .requests import OPERATIONS

    with open(0, "rb", closefd=False) as stdin:
        blob = stdin.read()
    if len(blob) != args["size"]:
        raise OSError(errno.EIO, "The request ended early", args["path"])
    write_all(1, message(*OPERATIONS[args["op"]](args, blob)))


def copy(args: Args) -> None:
    from .copying import copy

    copy(args["path"], args["to"])


def read_lines(args: Args) -> None:
    with open(open_regular(args["path"]), "rb") as file:
        emit([lines_of(file, args, length_of(file.fileno()))])


def lines_of(file: IO[bytes], args: Args, length: int = sys.maxsize) -> dict[str, Any]:
    """The lines asked for, and how many there are; a line of any length in bounded memory.

    Only the first `length` bytes count: somebody may add lines faster than they are read. No
    more than `most` of the order are read of these.
    """
    whole = length <= args["most"]
    length = min(length, args["most"])
    first, last = args["start"], args["start"] + args["limit"]
    width = args["width"]
    number = 1
    line = bytearray()
    ended = True
    wanted: list[str] = []
    while number < last and length and (piece := file.readline(min(length, INLINE))):
        length -= len(piece)
        ended = piece.endswith(b"\n")
        if first <= number < last and len(line) <= 4 * width:
            line += piece[: 4 * width + 4]
        if ended:
            if first <= number < last:
                wanted.append(shown_line(line, width))
                line = bytearray()
            number += 1
    if not ended and first <= number < last:
        wanted.append(shown_line(line, width))
    while length and (block := file.read(min(length, BULK))):  # which are only counted
        length -= len(block)
        number += block.count(b"\n")
        ended = block.endswith(b"\n")
    number += not ended
    whole = whole or bool(length) or not file.read(1)
    return {"lines": wanted, "total": number - 1, "whole": whole}


def shown_line(line: bytearray, width: int) -> str:
    text = line.decode("utf-8", "replace").rstrip("\n")
    if text.endswith("\r"):
        text = text[:-1]
    return text if len(text) <= width else text[:width] + "..."


def list_tree(args: Args) -> None:
    emit(limited(entries_below(args), args["limit"]))


def limited(items: Iterable[Any], limit: int | None) -> Iterator[Any]:
    for count, item in enumerate(items):
        if count == limit:
            return
        yield item


def entries_below(args: Args) -> Iterator[list[Any]]:
    """Entries of a directory in order of their paths, each directory followed by its own."""
    hidden, skipped = args["hidden"], set(args["skipped"])
    waiting: list[tuple[str, int, list[Any] | None]] = [(args["path"], args["depth"], None)]
    while waiting:
        path, depth, told = waiting.pop()
        if told is not None:
            yield told
        if depth == 0:
            continue
        try:
            names = sorted(os.listdir(path), reverse=True)
        except OSError:
            if told is None:
                raise
            continue  # a directory that cannot be read is named all the same
        for name in names:
            if not hidden and name.startswith("."):
                continue
            below = os.path.join(path, name)
            try:
                info = os.lstat(below)
            except OSError:
                continue  # gone between the listing and the look
            enter = stat.S_ISDIR(info.st_mode) and name not in skipped
            waiting.append((below, depth - 1 if enter else 0, entry(below, info)))


def remove(args: Args) -> None:
    from .folders import remove_tree

    remove_tree(args["path"])


def glob(args: Args) -> None:
    from .search import glob as search

    emit(search(args))


def grep(args: Args) -> None:
    from .search import grep as search

    emit(search(args))


def pack(args: Args) -> None:
    from .archive import tar_blocks
    from .ignored import IgnoreRules

    rules = IgnoreRules(args["ignore"], gitignore=args["gitignore"])
    with target_of(args) as target:
        for block in tar_blocks(args["path"], rules):
            write_all(target, block)


def unpack(args: Args) -> None:
    from .extraction import extract

    with source_of(args) as source, open(source, "rb", buffering=0, closefd=False) as stream:
        extract(stream, args["path"])


def watch(args: Args) -> None:
    from .watching import watch as tell

    tell(args, emit)


def load(name: str) -> None:
    """Import what a job needs, for the processes that are forked from this one to do it."""
    os.environ  # noqa: B018  # all of `os`, of which a guest that just started may have a part
    for module in LOADED_LATE.get(name, ()):
        __import__(f"{__package__}.{module}")


def load_all() -> None:
    """Import what jobs need: the process is about to become a user that may not read it.

    Nor is such a user to choose what is imported.
    """
    for name in LOADED_LATE:
        load(name)
    __import__(f"{__package__}.globs")
    __import__("hashlib")


LOADED_LATE = {
    "call": ("requests",),
    "copy": ("copying",),
    "remove": ("folders",),
    "glob": ("search",),
    "grep": ("search",),
    "pack": ("archive", "ignored"),
    "unpack": ("extraction",),
    "watch": ("watching",),
}
"""Modules that only these jobs need: a guest starts in milliseconds."""
ENDED_BY_STDIN = frozenset({"call", "receive", "unpack"})
JOBS: dict[str, Callable[[Args], None]] = {
    "send": send_file,
    "call": call,
    "receive": receive_file,
    "copy": copy,
    "lines": read_lines,
    "list": list_tree,
    "remove": remove,
    "glob": glob,
    "grep": grep,
    "pack": pack,
    "unpack": unpack,
    "watch": watch,
}
