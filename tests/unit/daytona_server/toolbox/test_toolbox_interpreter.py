"""The interpreter and what the daemon tells of its machine, in the conformance server's toolbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from daytona import DaytonaError, DaytonaTimeoutError  # noqa: TID253 - the SDK is what is served

if TYPE_CHECKING:
    from daytona import AsyncSandbox


async def test_code_keeps_its_names_and_tells_its_streams_apart(sandbox: AsyncSandbox) -> None:
    interpreter = sandbox.code_interpreter
    first = await interpreter.run_code(
        "import sys; x = 41; print('out'); print('err', file=sys.stderr)"
    )
    assert (first.stdout, first.stderr, first.error) == ("out\n", "err\n", None)
    assert (await interpreter.run_code("print(x + 1)")).stdout == "42\n"
    told = await interpreter.run_code("import os; print(os.environ['MINE'])", envs={"MINE": "1"})
    assert told.stdout == "1\n"
    assert (await interpreter.run_code("print(os.environ.get('MINE'))")).stdout == "None\n"


async def test_an_error_is_told_with_its_name(sandbox: AsyncSandbox) -> None:
    result = await sandbox.code_interpreter.run_code("1 / 0")
    assert result.error is not None
    assert (result.error.name, result.error.value) == ("ZeroDivisionError", "division by zero")
    assert result.error.traceback == (
        'Traceback (most recent call last):\n  File "<stdin>", line 1\n'
        "ZeroDivisionError: division by zero\n"
    )
    result = await sandbox.code_interpreter.run_code("def")
    assert result.error is not None
    assert result.error.name == "SyntaxError"


async def test_an_exit_is_no_error(sandbox: AsyncSandbox) -> None:
    result = await sandbox.code_interpreter.run_code("print('before'); raise SystemExit(3)")
    assert (result.stdout, result.error) == ("before\n", None)


async def test_a_line_is_one_message(sandbox: AsyncSandbox) -> None:
    told: list[str] = []
    await sandbox.code_interpreter.run_code(
        "print('one', 1); print('two', end='')",
        on_stdout=lambda message: told.append(message.output),
    )
    assert told == ["one 1\n", "two"]


async def test_code_that_takes_too_long_is_interrupted_and_its_names_stay(
    sandbox: AsyncSandbox,
) -> None:
    interpreter = sandbox.code_interpreter
    await interpreter.run_code("x = 1")
    with pytest.raises(DaytonaTimeoutError):
        await interpreter.run_code("import time; time.sleep(3600)", timeout=1)
    assert (await interpreter.run_code("print(x)")).stdout == "1\n"


async def test_contexts_are_apart_and_end(sandbox: AsyncSandbox) -> None:
    interpreter = sandbox.code_interpreter
    await interpreter.run_code("x = 1")
    context = await interpreter.create_context()
    assert [each.id for each in await interpreter.list_contexts()] == [context.id]
    result = await interpreter.run_code("print('x' in globals())", context=context)
    assert result.stdout == "False\n"
    await interpreter.delete_context(context)
    assert await interpreter.list_contexts() == []
    with pytest.raises(DaytonaError):
        await interpreter.run_code("1", context=context)
    with pytest.raises(DaytonaError):
        await interpreter.delete_context(context)


async def test_metrics_are_those_of_the_sandbox_s_processes(sandbox: AsyncSandbox) -> None:
    before = await sandbox.get_metrics_latest()
    await sandbox.code_interpreter.run_code("held = bytearray(64 * 1024**2)")
    after = await sandbox.get_metrics_latest()
    assert after.mem_used - before.mem_used > 60 * 1024**2
    assert 0 <= after.cpu_used_pct <= 100
    assert after.mem_used < after.mem_total
    assert after.disk_used < after.disk_total
