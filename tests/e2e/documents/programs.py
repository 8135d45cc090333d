"""The programs of four documents, as they are there: only their import line is this package's.

The documents are in ``tests/documents``, with their whitespace mended and nothing else. A
program is cut out by its first and last line. What the documents take for granted (a tool
of the reader's own, a list of tasks) is put before it, and directories that are theirs
(``/tmp/work``) are a test's. The model is a script behind a real socket, Daytona a server of
ours behind another.
"""

from __future__ import annotations

import asyncio
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.testing.model_server import ModelServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.e2e.conftest import Paddock

__all__ = ["BASH", "cut", "names_imported", "printed", "wrapped"]

DOCUMENTS = Path(__file__).parents[2] / "documents"
THEIRS = "(?:rho_agent|flowai_harness|runtimeuse)"
"""The packages of the documents."""
PATIENCE = 60
BASH: dict[str, Any] = {"tool_calls": [{"name": "bash", "arguments": {"command": "pwd"}}]}
COMMON = """
import asyncio
from paddock import Agent, AgentConfig, RuntimeOptions, Session, SessionInfo, SessionStore
from paddock import close_runtime, create_runtime
"""


def names_imported(document: str) -> list[str]:
    """Every name that the programs of a document import."""
    text = (DOCUMENTS / document).read_text()
    imported = re.findall(rf"from {THEIRS} import \(?([\w,\s]+?)(?:\)|\n[^ ])", text)
    return [name for names in imported for name in re.findall(r"\w+", names)]


def cut(document: str, first: str, last: str, *, number: int = 0) -> str:
    """The program from the `number`th line that begins with `first` on to one with `last`."""
    lines = (DOCUMENTS / document).read_text().splitlines()
    begin = [at for at, line in enumerate(lines) if line.startswith(first)][number]
    end = next(at for at in range(begin, len(lines)) if lines[at].startswith(last))
    program = "\n".join(lines[begin : end + 1])
    return re.sub(
        rf"^(\s*)from {THEIRS} import", r"\1from paddock import", program, flags=re.MULTILINE
    )


def wrapped(fragment: str, before: str = "", after: str = "") -> str:
    """The inside of a coroutine as a program."""
    body = textwrap.indent(f"{before}\n{fragment}\n{after}", "    ")
    return f"{COMMON}\nasync def main():\n{body}\nasyncio.run(main())\n"


async def printed(
    program: str, script: Sequence[Any], paddock: Paddock, env: Mapping[str, str] | None = None
) -> str:
    """What `program` prints; it may not complain."""
    work = paddock.cwd / "work"
    for place in ("/tmp/work", "/custom", "/var/log"):
        program = program.replace(place, str(work))
    async with ModelServer(script) as server:
        environment = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.api_key}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", program),
            cwd=paddock.cwd,
            env=paddock.environment | environment | dict(env or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, errors.decode()) == (0, ""), program
    return output.decode()
