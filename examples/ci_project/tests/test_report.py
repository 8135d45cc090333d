"""What `report` prints, and what it cannot do to the machine that tests it."""

import asyncio

import pytest

from paddock import Sandbox
from paddock.testing import SandboxFactory

ORDERS = "item,price\nchair,20.5\ntable,99.5\n"


@pytest.mark.sandbox(files={"data/in.csv": ORDERS}, network="none")
async def test_a_column_is_added_up(sandbox: Sandbox) -> None:
    result = await sandbox.exec("python3 -m report data/in.csv price", timeout=60)
    assert result.stdout == "120.0\n"


@pytest.mark.sandbox(files={"data/in.csv": ORDERS})
async def test_a_column_that_is_missing_is_named(sandbox: Sandbox) -> None:
    result = await sandbox.exec(["python3", "-m", "report", "data/in.csv", "weight"], timeout=60)
    assert result.exit_code == 1
    assert result.stderr == "data/in.csv has no column 'weight'\n"


async def test_two_sandboxes_do_not_share_files(sandbox_factory: SandboxFactory) -> None:
    async with (
        sandbox_factory(files={"in.csv": "price\n1\n"}) as one,
        sandbox_factory(files={"in.csv": "price\n2\n"}) as other,
    ):
        command = "python3 -m report in.csv price"
        found = await asyncio.gather(*(each.exec(command, timeout=60) for each in (one, other)))
        assert [result.stdout for result in found] == ["1.0\n", "2.0\n"]
