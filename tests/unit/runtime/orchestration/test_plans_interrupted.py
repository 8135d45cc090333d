"""Plans whose execution was interrupted: F-28 and F-29."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.orchestration.store import TenantStore
from tests.unit.runtime.orchestration.storing import (
    APPROVE,
    BODY,
    STORES,
    Dispatcher,
    Gate,
    Reopen,
    execute,
    plans,
    reopener,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=STORES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    return reopener(request.param, tmp_path)


@pytest.mark.rows("F-29")
class TestInterrupted:
    @pytest.mark.parametrize("sync", [False, True])
    async def test_an_execution_that_is_cancelled_has_an_unknown_outcome(
        self, sync: bool, reopen: Reopen
    ) -> None:
        began, end = threading.Event(), threading.Event()

        def block(actions: Any, ctx: Any) -> None:
            began.set()
            end.wait(60)

        async def wait(actions: Any, ctx: Any) -> None:
            began.set()
            await asyncio.Event().wait()

        kept = plans(reopen(), block if sync else wait)
        await kept.save("StockPlan", "plan-1", BODY)
        task = asyncio.create_task(execute(kept, Gate()))
        assert await asyncio.to_thread(began.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        end.set()
        await self.check_unknown(reopen)

    async def test_one_that_was_cancelled_before_it_began_is_still_approved(
        self, reopen: Reopen
    ) -> None:
        class Leaving(Gate):
            async def changed(self, plan_id: str, before: str, after: str) -> None:
                if after == "executing":
                    raise asyncio.CancelledError

        done = Dispatcher()
        await plans(reopen()).save("StockPlan", "plan-1", BODY)
        with pytest.raises(asyncio.CancelledError):
            await execute(plans(reopen(), done), Leaving(APPROVE))
        gate = Gate(APPROVE)
        assert (await execute(plans(reopen(), done), gate))["status"] == "executed"
        assert gate.steps == ["approved -> executing", "executing -> executed"]
        assert len(done.calls) == 1

    async def test_one_whose_process_has_died_is_failed_and_never_run_again(
        self, reopen: Reopen
    ) -> None:
        await self.begin_and_die(reopen)
        gate = Gate(APPROVE)
        result = await execute(plans(reopen(), Dispatcher()), gate)
        assert "began and did not end" in result["error"]
        assert result["outcome"] == {"unknown": True}
        assert gate.steps == ["executing -> failed"]
        await self.check_unknown(reopen)

    async def test_who_looks_at_it_sees_that_it_has_failed(self, reopen: Reopen) -> None:
        await self.begin_and_die(reopen)
        await self.check_unknown(reopen)

    async def test_one_that_was_given_up_meanwhile_stays_failed(self, reopen: Reopen) -> None:
        async def be_late(actions: Any, ctx: Any) -> None:
            await expire(reopen)
            other = await execute(plans(reopen(), Dispatcher()), Gate(APPROVE))
            assert other["outcome"] == {"unknown": True}

        await plans(reopen()).save("StockPlan", "plan-1", BODY)
        gate = Gate()
        result = await execute(plans(reopen(), be_late), gate)
        assert result["outcome"] == {"unknown": True}
        assert gate.steps[-1] == "executing -> failed"
        await self.check_unknown(reopen)

    async def test_the_claim_is_renewed_while_it_runs(
        self, reopen: Reopen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("paddock.runtime.core.claims.RENEWALS", 6000)

        async def long(actions: Any, ctx: Any) -> None:
            await expire(reopen)
            async with asyncio.timeout(60):
                while not await self.holds(reopen):  # noqa: ASYNC110
                    await asyncio.sleep(0)

        await plans(reopen()).save("StockPlan", "plan-1", BODY)
        assert (await execute(plans(reopen(), long), Gate()))["status"] == "executed"

    async def holds(self, reopen: Reopen) -> bool:
        plan = await TenantStore(reopen(), "acme").plans.get("plan-1")
        return plan is not None and plan.claim is not None and plan.claim.holds

    async def begin_and_die(self, reopen: Reopen) -> None:
        """Leave the plan as a process leaves it that dies while it executes it."""

        async def die(actions: Any, ctx: Any) -> None:
            await expire(reopen)
            raise Died

        kept = plans(reopen(), die)
        await kept.save("StockPlan", "plan-1", BODY)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("paddock.runtime.orchestration.plans._Execution._end", never)
            with pytest.raises(Died):
                await execute(kept, Gate())

    async def check_unknown(self, reopen: Reopen) -> None:
        done = Dispatcher()
        known = await plans(reopen()).get("plan-1")
        assert known is not None
        assert (known["status"], known["outcome"]["unknown"]) == ("failed", True)
        assert "error" in await execute(plans(reopen(), done), Gate(APPROVE))
        assert done.calls == []


class Died(BaseException):
    pass


async def never(*_: object) -> None:
    """What a dead process notes."""


async def expire(reopen: Reopen) -> None:
    def change(plan: Any) -> Any:
        return replace(plan, claim=replace(plan.claim, until=0.0))

    await TenantStore(reopen(), "acme").plans.change("plan-1", change)
