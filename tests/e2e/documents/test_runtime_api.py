"""The programs of the service API's document; see `programs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import paddock as package
from tests.e2e.documents.programs import BASH, cut, names_imported, printed, wrapped

if TYPE_CHECKING:
    from tests.e2e.conftest import Paddock

DOCUMENT = "runtime-api.txt"
RUNTIME = "runtime = create_runtime('x', options=RuntimeOptions(profile='developer'))"


async def test_basic_usage(paddock: Paddock) -> None:
    program = cut(DOCUMENT, "import asyncio", "asyncio.run(main())")
    script = [BASH, {"text": "The disk was full."}]
    assert await printed(program, script, paddock) == "The disk was full.\n"


async def test_dispatch(paddock: Paddock) -> None:
    program = cut(
        DOCUMENT,
        "from rho_agent import CancellationToken, dispatch_prompt",
        'handle.cancel("timeout exceeded")',
    )
    after = "print(result.text, handle.status, handle.done())\nawait close_runtime(runtime)"
    script = [{"text": "All is well."}]
    output = await printed(wrapped(program, RUNTIME, after), script, paddock)
    assert output == "All is well. completed True\n"


async def test_reconfigure(paddock: Paddock) -> None:
    program = cut(
        DOCUMENT,
        "from rho_agent import reconfigure_runtime",
        'new_profile = reconfigure_runtime(runtime, profile="readonly")',
    )
    after = "print(new_profile.name, 'edit' in runtime.registry)"
    assert await printed(wrapped(program, RUNTIME, after), [], paddock) == "readonly False\n"


async def test_parallel_dispatch(paddock: Paddock) -> None:
    program = cut(DOCUMENT, "from rho_agent import (", "    await close_runtime(rt, result.status)")
    before = (
        "from types import SimpleNamespace as Task\n"
        "tasks = [Task(working_dir='/tmp/work/%d' % n, prompt='Go %d.' % n) for n in range(3)]"
    )
    after = "print([result.text for result in results])"
    script = [{"text": "Done."}]
    output = await printed(wrapped(program, before, after), script, paddock)
    assert output == "['Done.', 'Done.', 'Done.']\n"


def test_every_name_that_it_imports_is_there() -> None:
    for name in names_imported(DOCUMENT):
        assert hasattr(package, name), name
