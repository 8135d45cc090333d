"""The tools that read, write and list files. Each is one or two round trips to the sandbox."""

from __future__ import annotations

import contextlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.permissions.paths import parse_path, show_path
from paddock.runtime.permissions.protected import protected_reason
from paddock.runtime.tools.arguments import object_schema
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.tools.output import cut_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paddock.files import FileInfo, FileSystem
    from paddock.runtime.core.tool import ToolInvocation
    from paddock.sandbox import Sandbox

__all__ = [
    "ListHandler",
    "ReadHandler",
    "WriteHandler",
    "failed",
    "not_written",
    "refused",
    "seen_from_inside",
]

MAX_LINES: Final = 500
MAX_LINE_LENGTH: Final = 500
MAX_ENTRIES: Final = 200
MAX_READ_BYTES: Final = 512 * 1024 * 1024
"""Lines are counted to the end of the file; this much takes a second or two."""

_BINARY_SUFFIXES = frozenset({
    ".7z", ".a", ".avi", ".bin", ".bmp", ".bz2", ".class", ".db", ".dll", ".doc", ".docx",
    ".dylib", ".exe", ".flac", ".gif", ".gz", ".ico", ".jar", ".jpeg", ".jpg", ".mkv", ".mov",
    ".mp3", ".mp4", ".o", ".ogg", ".otf", ".parquet", ".pdf", ".pkl", ".png", ".ppt", ".pptx",
    ".pyc", ".rar", ".so", ".sqlite", ".sqlite3", ".tar", ".tgz", ".tif", ".tiff", ".ttf", ".war",
    ".wasm", ".wav", ".webm", ".webp", ".whl", ".woff", ".woff2", ".xls", ".xlsx", ".xz", ".zip",
    ".zst",
})  # fmt: skip
_MARKS = {"directory": "/", "symlink": "@", "file": "", "other": "|"}


ANY_WRITES: Final = 0o222
"""Permission bits; a file with none of them is read-only on purpose."""
_SENTENCES: Final[dict[type[OSError], str]] = {
    FileNotFoundError: "File not found",
    FileExistsError: "File already exists",
    IsADirectoryError: "Is a directory",
    NotADirectoryError: "Not a directory",
    PermissionError: "Permission denied",
}


def failed(content: str) -> ToolOutput:
    return ToolOutput(content=content, success=False)


def refused(error: OSError, path: str) -> ToolOutput:
    """What the sandbox's file system said about `path`, for the model."""
    sentence = _SENTENCES.get(type(error)) or error.strerror or type(error).__name__
    return failed(f"{sentence}: {show_path(path)}")


async def not_written(fs: FileSystem, error: OSError, path: str) -> ToolOutput:
    """Return the text for the model about a file that could not be written."""
    if isinstance(error, PermissionError):
        with contextlib.suppress(OSError):
            info = await fs.stat(path)
            if info.kind == "file" and not info.mode & ANY_WRITES:
                shown = show_path(path)
                return failed(
                    f"{shown} is read-only (mode {info.mode:04o}), and nothing was written. If it "
                    "is yours to change, make it writable first (chmod u+w); otherwise leave it "
                    "as it is and write elsewhere."
                )
    return refused(error, path)


class ReadHandler(ToolHandler):
    """Reads lines of a text file, numbered, at most 500 of them and 500 characters of each."""

    name = "read"
    description: str = (
        f"Read a text file, with line numbers. At most {MAX_LINES} lines at once: give start_line "
        "and end_line for other parts of a long file."
    )
    parameters = object_schema(
        required=["path"],
        path={"type": "string", "description": "The file."},
        start_line={"type": "integer", "description": "First line, from 1.", "minimum": 1},
        end_line={"type": "integer", "description": "Last line, included.", "minimum": 1},
    )

    is_concurrent: Final = True

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        path = parse_path(invocation.arguments["path"])
        shown = show_path(path)
        start = invocation.arguments.get("start_line", 1)
        end = invocation.arguments.get("end_line", start + MAX_LINES - 1)
        if end < start:
            return failed(f"end_line {end} is before start_line {start}")
        if PurePosixPath(path).suffix.lower() in _BINARY_SUFFIXES:
            return failed(f"Cannot read a binary file: {shown}")
        sandbox = await invocation.context.sandbox()
        fs = sandbox.fs
        limit = min(end - start + 1, MAX_LINES)
        try:
            info = await fs.stat(path)
            if info.kind != "file":  # opening a pipe or a device could wait forever
                return failed(f"Not a file: {shown}")
            if info.size > MAX_READ_BYTES:
                return failed(f"Too large: {shown} has {info.size} bytes; use head, tail or grep")
            found = await fs.read_lines(path, start=start, limit=limit, width=MAX_LINE_LENGTH)
        except OSError as error:
            return refused(error, path)
        if not found.lines and start > max(found.total, 1):
            return failed(f"Start line {start} exceeds the file's length ({found.total} lines)")
        if any("\0" in line for line in found.lines):
            return failed(f"Cannot read a binary file: {shown}")
        lines = [cut_line(line, MAX_LINE_LENGTH, sandbox.redactor) for line in found.lines]
        return ToolOutput(content=_numbered(lines, start, found.total))


def _numbered(lines: Sequence[str], start: int, total: int) -> str:
    text = "\n".join(f"{number:6d}  {line}" for number, line in enumerate(lines, start))
    if len(lines) == total:
        return text or "[The file is empty]"
    return f"{text}\n\n[Showing lines {start}-{start + len(lines) - 1} of {total}]"


class WriteHandler(ToolHandler):
    """Writes a whole file; with `create_only` neither an existing nor a protected one."""

    name = "write"
    parameters = object_schema(
        required=["path", "content"],
        path={"type": "string", "description": "The file; its directories are made."},
        content={"type": "string", "description": "The whole contents."},
    )

    def __init__(self, *, create_only: bool = False) -> None:
        self._create_only = create_only
        self.description = (
            "Create a file with the given content. Existing files cannot be replaced."
            if create_only
            else "Write a file: create it, or replace the whole of it by the given content."
        )

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        path = parse_path(invocation.arguments["path"])
        shown = show_path(path)
        content: str = invocation.arguments["content"]
        data = content.encode("utf-8", "surrogateescape")
        sandbox = await invocation.context.sandbox()
        if self._create_only and (reason := protected_reason(seen_from_inside(sandbox, path))):
            return failed(f"Cannot write to a protected path: {shown} is {reason}")
        try:
            existed = not self._create_only and await sandbox.fs.exists(path)
            await sandbox.fs.write_bytes(path, data, exclusive=self._create_only)
        except OSError as error:
            return await not_written(sandbox.fs, error, path)
        lines = content.count("\n") + (not content.endswith("\n") and content != "")
        verb = "Overwrote" if existed else "Created"
        return ToolOutput(content=f"{verb} {shown} ({len(data)} bytes, {lines} lines)")


def seen_from_inside(sandbox: Sandbox, path: str) -> PurePosixPath:
    """`path` from the working directory, so that a sandbox that works below /usr can work."""
    absolute = sandbox.path(path)
    if absolute.is_relative_to(sandbox.working_dir):
        return absolute.relative_to(sandbox.working_dir)
    return absolute


class ListHandler(ToolHandler):
    """Lists a directory: ``name/`` for directories, ``name@`` for links, sizes for files."""

    name = "list"
    description: str = (
        f"List a directory, at most {MAX_ENTRIES} entries. Directories end in '/', links in '@'; "
        "files are followed by their size in bytes."
    )
    parameters = object_schema(
        path={"type": "string", "description": "The directory; the working one if absent."},
        show_hidden={"type": "boolean", "description": "Also names that begin with a dot."},
        recursive={"type": "boolean", "description": "Also what is in its directories."},
        max_depth={
            "type": "integer",
            "description": "How many levels deep when recursive; 3 if absent.",
            "minimum": 1,
        },
    )

    is_concurrent: Final = True

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        arguments = invocation.arguments
        path = parse_path(arguments.get("path") or ".")
        sandbox = await invocation.context.sandbox()
        try:
            entries = await sandbox.fs.list(
                path,
                depth=arguments.get("max_depth", 3) if arguments.get("recursive") else 1,
                hidden=arguments.get("show_hidden", False),
                limit=MAX_ENTRIES + 1,  # one more tells that there are more
            )
        except OSError as error:
            return refused(error, path)
        base = sandbox.path(path)
        text = "\n".join(_entry(info, base) for info in entries[:MAX_ENTRIES])
        if len(entries) > MAX_ENTRIES:
            text += f"\n\n[Showing the first {MAX_ENTRIES} entries]"
        return ToolOutput(content=text or "[The directory is empty]")


def _entry(info: FileInfo, base: PurePosixPath) -> str:
    name = info.path.relative_to(base) if info.path.is_relative_to(base) else info.path
    size = f"  {info.size}" if info.kind == "file" else ""
    return f"{show_path(name)}{_MARKS[info.kind]}{size}"
