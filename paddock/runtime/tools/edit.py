"""The tool that replaces one piece of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from paddock.errors import FileChanged
from paddock.runtime.core.tool import ToolOutput
from paddock.runtime.permissions.paths import parse_path, show_path
from paddock.runtime.tools.arguments import object_schema
from paddock.runtime.tools.base import ToolHandler
from paddock.runtime.tools.files import failed, not_written
from paddock.runtime.tools.matching import EditError, replace_once

if TYPE_CHECKING:
    from paddock.runtime.core.tool import ToolInvocation

__all__ = ["EditHandler"]

MAX_FILE_BYTES: Final = 10 * 1024 * 1024
"""Larger files are data, not something that is edited by hand."""


class EditHandler(ToolHandler):
    """Replaces the one occurrence of a text; see `replace_once` for how it is looked for.

    The file is replaced whole and atomically, and only if it is still what was read.
    Bytes that are not UTF-8 stay as they are.
    """

    name = "edit"
    description = (
        "Replace one piece of a file. old_string must occur exactly once: give enough lines "
        "around the change. An empty new_string deletes it."
    )
    parameters = object_schema(
        required=["path", "old_string", "new_string"],
        path={"type": "string", "description": "The file."},
        old_string={"type": "string", "description": "The text to replace, as it is now."},
        new_string={"type": "string", "description": "What to put there."},
    )

    async def handle(self, invocation: ToolInvocation) -> ToolOutput:
        path = parse_path(invocation.arguments["path"])
        shown = show_path(path)
        fs = (await invocation.context.sandbox()).fs
        try:
            info = await fs.stat(path)
            if info.kind != "file":
                return failed(f"Not a file: {shown}")
            if info.size > MAX_FILE_BYTES:
                return failed(f"Too large to edit: {shown} has {info.size} bytes")
            before = await fs.read_bytes(path, limit=MAX_FILE_BYTES)
            edited = replace_once(
                before.decode("utf-8", "surrogateescape"),
                invocation.arguments["old_string"],
                invocation.arguments["new_string"],
            )
            after = edited.text.encode("utf-8", "surrogateescape")
            await fs.write_bytes(path, after, expect=before)
        except EditError as error:
            return failed(f"Cannot edit {shown}: {error}")
        except FileChanged:
            return failed(f"{shown} was changed meanwhile, nothing was written. Read it again.")
        except OSError as error:
            return await not_written(fs, error, path)
        return ToolOutput(content=f"Edited {shown}: {edited.match}")
