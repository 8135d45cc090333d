"""The tools that find files and lines. One round trip each; the sandbox does the searching."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.permissions.paths import parse_path, show_path
from paddock.runtime.tools.arguments import object_schema
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.tools.files import MAX_LINE_LENGTH, failed, refused
from paddock.runtime.tools.output import cut_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import PurePosixPath

    from paddock.files import GrepResult
    from paddock.redaction import Redactor
    from paddock.runtime.core.tool import ToolInvocation

__all__ = ["GlobHandler", "GrepHandler"]

MAX_RESULTS: Final = 100
MOST_RESULTS: Final = 1000
"""What a model may ask for at most; its reading is cut long before."""


class GlobHandler(ToolHandler):
    """Finds files by name; directories that tools made (``.git``...) are skipped."""

    name = "glob"
    description = (
        "Find files by a pattern such as '*.py' or 'src/**/test_*.py'. A pattern without a slash "
        "matches names in every directory. Paths come relative to the searched directory."
    )
    parameters = object_schema(
        required=["pattern"],
        pattern={"type": "string", "description": "The pattern."},
        path={"type": "string", "description": "Where to search; the working directory."},
        max_results={"type": "integer", "minimum": 1, "maximum": MOST_RESULTS},
    )

    is_concurrent: Final = True

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        pattern = parse_path(invocation.arguments["pattern"])
        path = parse_path(invocation.arguments.get("path") or ".")
        limit = invocation.arguments.get("max_results", MAX_RESULTS)
        sandbox = await invocation.context.sandbox()
        try:
            found = await sandbox.fs.glob(pattern, path, limit=limit)
        except OSError as error:
            return refused(error, path)
        except ValueError as error:
            return failed(f"Invalid pattern: {error}")
        if not found.paths:
            return ToolOutput(content=f"No files match {show_path(pattern)}")
        base = sandbox.path(path)
        shown = len(found.paths)
        note = f"[{shown} files found]"
        if found.total > shown:
            note = f"[Showing {shown} of {found.total} files]"
        names = "\n".join(show_path(_relative(name, base)) for name in found.paths)
        return ToolOutput(content=f"{names}\n\n{note}")


class GrepHandler(ToolHandler):
    """Finds lines by regular expression: ``path:line:text``, with dashes for context."""

    name = "grep"
    description = (
        "Search the text files below a directory, or one file, for a regular expression. Results "
        "are 'path:line:text', with paths relative to the searched directory."
    )
    parameters = object_schema(
        required=["pattern"],
        pattern={"type": "string", "description": "The regular expression."},
        path={"type": "string", "description": "Directory or file; the working directory."},
        glob={"type": "string", "description": "Search only files that match, as '*.py'."},
        ignore_case={"type": "boolean"},
        context_lines={
            "type": "integer",
            "description": "Lines to show before and after each match.",
            "minimum": 0,
            "maximum": 20,
        },
        max_matches={"type": "integer", "minimum": 1, "maximum": MOST_RESULTS},
    )

    is_concurrent: Final = True

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        arguments = invocation.arguments
        path = parse_path(arguments.get("path") or ".")
        sandbox = await invocation.context.sandbox()
        try:
            found = await sandbox.fs.grep(
                arguments["pattern"],
                path,
                glob=arguments.get("glob"),
                ignore_case=arguments.get("ignore_case", False),
                context=arguments.get("context_lines", 0),
                limit=arguments.get("max_matches", MAX_RESULTS),
            )
        except OSError as error:
            return refused(error, path)
        except ValueError as error:
            return failed(f"Invalid pattern: {error}")
        base = sandbox.path(path)
        text = "\n".join(_lines(found, base, sandbox.redactor))
        if not found.lines:
            text = f"No matches for {arguments['pattern']}"
        if found.truncated:
            matches = sum(line.match for line in found.lines)
            text += f"\n\n[Showing the first {matches} matches]"
        if found.too_long is not None:
            name = show_path(_relative(found.too_long, base))
            text += f"\n\n[The search ended in {name}, which is too long; leave it out by glob]"
        return ToolOutput(content=text)


def _lines(found: GrepResult, base: PurePosixPath, redactor: Redactor) -> Iterator[str]:
    """The lines as ``grep -n`` shows them, with ``--`` where lines were left out."""
    with_context = not all(line.match for line in found.lines)
    before = None
    for line in found.lines:
        follows = before is None or (before.path, before.line + 1) == (line.path, line.line)
        if with_context and not follows:
            yield "--"
        mark = ":" if line.match else "-"
        text = cut_line(line.text.rstrip("\r\n"), MAX_LINE_LENGTH, redactor)
        yield f"{show_path(_relative(line.path, base))}{mark}{line.line}{mark}{text}"
        before = line


def _relative(path: PurePosixPath, base: PurePosixPath) -> PurePosixPath | str:
    """`path` from `base`; just its name where it is `base`, as when one file was searched."""
    if path == base:
        return path.name
    return path.relative_to(base) if path.is_relative_to(base) else path
