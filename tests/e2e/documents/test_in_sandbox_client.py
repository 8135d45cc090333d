"""The programs of the in-sandbox client's document; see `programs`.

Its sandbox is one of this machine, with the ``npx`` of the agent image.
"""

from __future__ import annotations

import re
import shutil
import socket
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

import paddock as package
from tests.e2e.documents.programs import DOCUMENTS, cut, names_imported, printed
from tests.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Paddock

DOCUMENT = "in-sandbox-client.txt"
STRUCTURED = {"text": '{"success": true}'}

SETTING = """
import asyncio, os, sys
from paddock import *
from paddock import LocalBackend, RuntimeServer
from paddock.runtime.remote.echo import EchoAgent

invocation = InvocationMessage(
    model="m", system_prompt="s", user_prompt=PROMPT, artifacts_dir=os.getcwd() + "/art",
)

async def ignore(*_):
    pass

on_result = on_assistant = on_error = handle_my_result = ignore

async def no():
    return False

check_cancelled = no

class Storage:
    async def create_presigned_url(self, name):
        print("asked for", name)
        return "http://127.0.0.1:1/" + name

class Db:
    async def is_run_cancelled(self, run_id):
        return True

my_storage, db, run_id, guess_content_type = Storage(), Db(), 1, lambda name: "text/plain"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fragment(prompt: str, *parts: str) -> str:
    """Parts of the document, in a coroutine that has a server and a client."""
    head = SETTING.replace("PROMPT", repr(prompt))
    body = textwrap.indent("\n".join(parts), "        ")
    return (
        f"{head}\nasync def main():\n"
        "    async with RuntimeServer(EchoAgent(), port=0, state_dir='state') as server:\n"
        "        client = RuntimeUseClient(ws_url=server.url)\n"
        f"{body}\nasyncio.run(main())\n"
    )


@pytest.mark.rows("U-8")
def test_every_name_of_the_document_is_the_packages() -> None:
    text = (DOCUMENTS / DOCUMENT).read_text()
    table = re.findall(r"^(\w+(?:Interface|Message|Exception)) ", text, re.MULTILINE)
    assert len(table) == 10
    for name in {*names_imported(DOCUMENT), *table, "ArtifactUploadResult"}:
        assert getattr(package, name).__module__.startswith("paddock.")


@pytest.mark.rows("U-2", "U-6", "U-7", "U-9", "U-17", "U-26")
async def test_the_quick_start_runs(paddock: Paddock, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    shutil.copy(ROOT / "images" / "agent" / "npx", programs / "npx")
    own = programs / "paddock"
    own.write_text(f'#!/bin/sh\nexec {sys.executable} -m paddock "$@"\n')
    own.chmod(0o755)
    port = str(free_port())
    program = cut(DOCUMENT, "import asyncio", "asyncio.run(main())")
    program = program.replace(
        "import asyncio", "import asyncio\nfrom paddock.sync import Sandbox", 1
    )
    program = program.replace("npx -y runtimeuse", f"npx -y runtimeuse --port {port}")
    program = program.replace("8080", port)
    given = "{n: os.environ[n] for n in ('OPENAI_API_KEY', 'OPENAI_BASE_URL')}"
    backend = (
        "import os\nfrom paddock import LocalBackend\n"
        f"env = {given} | {{'PATH': {str(programs)!r} + ':' + os.environ['PATH']}}\n"
        "backend = LocalBackend(isolation='none', env_vars=env)\n"
    )
    program = backend + program.replace("Sandbox.create()", "Sandbox.create(backend=backend)")
    said = await printed(program, [STRUCTURED], paddock)
    assert said == "Success: True\nOutput: {'success': True}\n"


@pytest.mark.rows("U-2", "U-4")
async def test_an_artifact_is_asked_for_as_the_document_has_it(paddock: Paddock) -> None:
    callback = cut(DOCUMENT, "from runtimeuse import ArtifactUploadResult", "    return Artifact")
    call = cut(DOCUMENT, "await client.invoke(", ")")
    program = fragment("WRITE_FILE:art/a.txt hello", callback, call)
    assert await printed(program, [], paddock) == "asked for a.txt\n"


@pytest.mark.rows("U-3")
async def test_a_run_is_cancelled_as_the_document_has_it(paddock: Paddock) -> None:
    program = fragment(
        "SLOW:600000", cut(DOCUMENT, "from runtimeuse import Cancelled", '    print("Run was can')
    )
    assert await printed(program, [], paddock) == "Run was cancelled\n"


@pytest.mark.rows("U-5")
async def test_a_result_of_ones_own_is_as_the_document_has_it(paddock: Paddock) -> None:
    custom = cut(DOCUMENT, "from runtimeuse import ResultMessageInterface", "    custom_score")
    call = cut(DOCUMENT, "await client.invoke(", ")", number=1)
    show = (
        "async def handle_my_result(result):\n    print(type(result).__name__, result.custom_score)"
    )
    program = fragment('STRUCTURED:{"a": 1}', custom, show, call)
    assert await printed(program, [], paddock) == "MyResultMessage None\n"
