"""The life of a plan: F-27, F-28 and F-29."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel

from paddock import ApprovalError, PlanError
from paddock.runtime.core.approval import Decision
from paddock.runtime.orchestration.define import define_plan
from paddock.runtime.orchestration.plans import Plans
from paddock.runtime.orchestration.schemas import TaggedUnion
from paddock.runtime.orchestration.store import TenantStore
from paddock.runtime.orchestration.stores.memory import MemoryRuntimeStore
from tests.unit.runtime.orchestration.storing import (
    APPROVE,
    BODY,
    SKU_SET,
    STORES,
    Dispatcher,
    Gate,
    Reopen,
    execute,
    plans,
    references,
    reopener,
)

if TYPE_CHECKING:
    from pathlib import Path

ACTION = {"kind": "reorder", "payload": {"sku": "s-1", "count": 5}, "references": []}


@pytest.fixture(params=STORES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    return reopener(request.param, tmp_path)


def body(*actions: Any, **more: Any) -> dict[str, Any]:
    return {"why": "so", "actions": [*actions], **more}


@pytest.mark.rows("F-27")
class TestDrafts:
    async def test_flat_actions_are_kept_in_three_parts_and_the_rest_as_context(
        self, reopen: Reopen
    ) -> None:
        ref = {"kind": "SkuSet", "id": "0" * 32}
        given = body({"kind": "reorder", "sku": "s-1", "references": [ref]}, note={"a": [1]})
        kept = await plans(reopen()).save("StockPlan", "plan-1", given)
        assert kept == {
            "id": "plan-1",
            "status": "draft",
            "revision": 1,
            "actions": [{"kind": "reorder", "payload": {"sku": "s-1"}, "references": [ref]}],
            "context": {"why": "so", "note": {"a": [1]}},
        }
        assert await plans(reopen()).get("plan-1") == kept
        assert await plans(reopen()).get("plan-2") is None

    async def test_actions_that_have_these_parts_already_stay_as_they_are(self) -> None:
        kept = await plans(MemoryRuntimeStore()).save("StockPlan", "p", body(ACTION))
        assert kept["actions"] == [ACTION]

    async def test_a_draft_that_is_stored_again_has_a_new_revision(self, reopen: Reopen) -> None:
        for revision in (1, 2, 3):
            kept = await plans(reopen()).save("StockPlan", "plan-1", body(ACTION, n=revision))
            assert (kept["revision"], kept["context"]["n"]) == (revision, revision)

    @pytest.mark.parametrize(
        ("given", "problem"),
        [
            (body(), r"\$\.actions has to have an action"),
            ({"why": "so"}, "'actions' is a required property"),
            (body(ACTION) | {"why": 5}, r"\$\.why: 5 is not of type 'string'"),
            (body(5), r"\$\.actions\[0\]: 5 is not of type 'object'"),
            (body(ACTION, {"sku": "s-1"}), r"\$\.actions\[1\] has no text 'kind'"),
            (body({"kind": 5}), r"\$\.actions\[0\] has no text 'kind'"),
            (body({"kind": "k", "references": [{"kind": "SkuSet"}]}), "with 'kind' and 'id'"),
            (body({"kind": "k", "references": {"kind": "a", "id": "b"}}), "list of objects"),
            (body(ACTION, x=float("nan")), "its body is not JSON"),
            ([], "its body is an object, not list"),
        ],
    )
    async def test_a_body_that_does_not_fit_is_refused_and_nothing_is_kept(
        self, given: Any, problem: str, reopen: Reopen
    ) -> None:
        with pytest.raises(PlanError, match=problem) as caught:
            await plans(reopen()).save("StockPlan", "plan-1", given)
        assert caught.value.code == "invalid"
        assert await plans(reopen()).get("plan-1") is None

    @pytest.mark.parametrize("plan_id", ["", "a\nb", "\ud800", "\x00", "x" * 201])
    async def test_an_id_that_nobody_can_read_is_refused(self, plan_id: str) -> None:
        with pytest.raises(PlanError, match="printable characters"):
            await plans(MemoryRuntimeStore()).save("StockPlan", plan_id, BODY)

    async def test_a_spec_that_is_unknown_is_refused(self) -> None:
        with pytest.raises(PlanError, match="unknown spec 'Nope'; there is StockPlan"):
            await plans(MemoryRuntimeStore()).save("Nope", "plan-1", BODY)

    async def test_a_plan_that_is_no_draft_is_never_replaced(self, reopen: Reopen) -> None:
        await plans(reopen()).save("StockPlan", "plan-1", BODY)
        await execute(plans(reopen(), Dispatcher()), Gate())
        with pytest.raises(PlanError, match="it is executed, and only a draft") as caught:
            await plans(reopen()).save("StockPlan", "plan-1", body(ACTION))
        assert caught.value.code == "not_draft"

    @pytest.mark.parametrize("extra", ["allow", "ignore", "forbid"])
    async def test_models_of_actions_need_not_know_references(self, extra: Any) -> None:
        class Reorder(BaseModel):
            model_config = {"extra": extra}
            kind: Literal["reorder"]
            sku: str

        class Drop(BaseModel):
            kind: str = "drop"

        action = TaggedUnion(Reorder, Drop)

        class Plan(BaseModel):
            actions: list[action]  # type: ignore[valid-type]

        spec = define_plan("P", Plan)
        store = MemoryRuntimeStore()
        kept = Plans(TenantStore(store, "acme"), references(store), {"P": spec})
        ref = {"kind": "SkuSet", "id": "0" * 32}
        saved = await kept.save(
            "P", "p", {"actions": [{"kind": "reorder", "sku": "s", "references": [ref]}]}
        )
        assert saved["actions"][0]["references"] == [ref]
        with pytest.raises(PlanError, match="invalid body"):
            await kept.save("P", "p", {"actions": [{"kind": "other", "references": [ref]}]})


@pytest.mark.rows("F-28")
class TestLife:
    async def test_a_plan_is_approved_and_executed_once(self, reopen: Reopen) -> None:
        await plans(reopen()).save("StockPlan", "plan-1", BODY)
        gate, done = Gate(APPROVE), Dispatcher({"entitiesAffected": 1, "summary": "queued 1"})
        result = await execute(plans(reopen(), done), gate)
        assert result == {
            "planId": "plan-1",
            "status": "executed",
            "entitiesAffected": 1,
            "summary": "queued 1",
        }
        assert gate.steps == [
            "draft -> pending_approval",
            "asked",
            "pending_approval -> approved",
            "approved -> executing",
            "executing -> executed",
        ]
        [asked] = gate.asked
        assert asked.shown() == {
            "id": "plan-1",
            "status": "draft",
            "revision": 1,
            "actions": [ACTION],
            "context": {"why": "stock is low"},
        }
        again = Gate(APPROVE)
        assert await execute(plans(reopen(), done), again) == result
        assert again.steps == []
        assert len(done.calls) == 1
        known = await plans(reopen()).get("plan-1")
        assert known is not None
        assert known["outcome"] == {"entitiesAffected": 1, "summary": "queued 1"}

    async def test_without_a_gate_it_is_approved_at_once(self) -> None:
        kept = plans(MemoryRuntimeStore(), Dispatcher())
        await kept.save("StockPlan", "plan-1", BODY)
        gate = Gate()
        await execute(kept, gate)
        steps = ["draft -> approved", "approved -> executing", "executing -> executed"]
        assert gate.steps == steps

    @pytest.mark.parametrize(
        ("answer", "result"),
        [
            (
                Decision(outcome="reject", feedback="too many"),
                {"error": "rejected", "feedback": "too many", "planId": "plan-1"},
            ),
            (Decision(outcome="reject"), {"error": "rejected", "planId": "plan-1"}),
            (
                Decision(outcome="revise", partial={"count": 3}, feedback="only 3"),
                {
                    "planId": "plan-1",
                    "should_revise": True,
                    "partial": {"count": 3},
                    "feedback": "only 3",
                },
            ),
            (
                Decision(outcome="revise"),
                {"planId": "plan-1", "should_revise": True, "partial": {}},
            ),
        ],
    )
    async def test_a_plan_that_is_not_approved_is_a_draft_again(
        self, answer: Decision, result: dict[str, Any], reopen: Reopen
    ) -> None:
        done = Dispatcher()
        await plans(reopen()).save("StockPlan", "plan-1", BODY)
        gate = Gate(answer)
        assert await execute(plans(reopen(), done), gate) == result
        assert gate.steps == ["draft -> pending_approval", "asked", "pending_approval -> draft"]
        assert (await plans(reopen()).save("StockPlan", "plan-1", BODY))["revision"] == 2
        assert (await execute(plans(reopen(), done), Gate(APPROVE)))["status"] == "executed"
        assert len(done.calls) == 1

    async def test_an_approval_is_for_one_revision(self, reopen: Reopen) -> None:
        done = Dispatcher()
        await plans(reopen()).save("StockPlan", "plan-1", BODY)

        class Slow(Gate):
            async def ask(self, plan: Any) -> Decision:
                await plans(reopen()).save("StockPlan", "plan-1", body(ACTION, ACTION))
                return await super().ask(plan)

        gate = Slow(APPROVE)
        result = await execute(plans(reopen(), done), gate)
        assert "it has a new revision, 2, which was not approved" in result["error"]
        assert gate.steps[-1] == "pending_approval -> draft"
        assert done.calls == []

    async def test_who_gives_no_answer_leaves_a_draft(self) -> None:
        class Withdrawn(Gate):
            async def ask(self, plan: Any) -> Decision:
                raise ApprovalError("a-1", "withdrawn", "nobody waits")

        kept = plans(MemoryRuntimeStore(), Dispatcher())
        await kept.save("StockPlan", "plan-1", BODY)
        gate = Withdrawn(APPROVE)
        with pytest.raises(ApprovalError):
            await execute(kept, gate)
        assert gate.steps[-1] == "pending_approval -> draft"

    async def test_a_plan_that_is_not_there_and_one_that_nobody_can_execute(self) -> None:
        kept = plans(MemoryRuntimeStore())
        gone = await execute(kept, Gate())
        assert gone == {"error": "plan 'plan-1': there is no such plan", "planId": "plan-1"}
        await kept.save("StockPlan", "plan-1", BODY)
        gate = Gate(APPROVE)
        assert "give create_runtime an action_dispatcher" in (await execute(kept, gate))["error"]
        assert gate.steps == []

    async def test_of_many_who_ask_at_once_one_executes_it(self, reopen: Reopen) -> None:
        done = Dispatcher()
        await plans(reopen()).save("StockPlan", "plan-1", BODY)
        asked = [execute(plans(reopen(), done), Gate(APPROVE)) for _ in range(20)]
        results = await asyncio.gather(*asked)
        assert len(done.calls) == 1
        ran = {"planId": "plan-1", "status": "executed", "entitiesAffected": 0}
        assert results == [ran] * 20

    async def test_who_asks_for_a_plan_that_is_executed_for_long_is_told_so(
        self, reopen: Reopen, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("paddock.runtime.orchestration.plans.OTHERS", 0.0)

        async def ask_again(actions: Any, ctx: Any) -> dict[str, Any]:
            inner = await execute(plans(reopen(), Dispatcher()), Gate(APPROVE))
            return {"entitiesAffected": 1, "details": inner}

        await plans(reopen()).save("StockPlan", "plan-1", BODY)
        result = await execute(plans(reopen(), ask_again), Gate(APPROVE))
        assert result["details"] == {
            "error": "plan 'plan-1' is executed by another call",
            "planId": "plan-1",
        }


@pytest.mark.rows("F-29")
class TestDispatcher:
    async def test_it_gets_copies_of_the_actions_and_the_values_of_their_references(
        self, reopen: Reopen
    ) -> None:
        kept = references(reopen())
        one, two = [await kept.create(SKU_SET, {"skus": [name]}) for name in "ab"]
        given = body({"kind": "k", "references": [one, two]}, {"kind": "k", "references": [one]})
        await plans(reopen()).save("StockPlan", "plan-1", given)
        done = Dispatcher()
        await execute(plans(reopen(), done), Gate())
        [(actions, ctx)] = done.calls
        assert [action["references"] for action in actions] == [[one, two], [one]]
        assert ctx["resolved_refs"] == {
            "SkuSet": {one["id"]: {"skus": ["a"]}, two["id"]: {"skus": ["b"]}}
        }
        assert (ctx["plan_id"], ctx["revision"]) == ("plan-1", 1)
        assert re.fullmatch("[0-9a-f]{32}", ctx["idempotency_key"])
        assert "services" not in ctx

    async def test_it_may_be_async_and_else_runs_in_a_thread(self) -> None:
        threads = []

        async def here(actions: Any, ctx: Any) -> None:
            threads.append(threading.current_thread())

        def there(actions: Any, ctx: Any) -> None:
            threads.append(threading.current_thread())

        for dispatcher in (here, there):
            kept = plans(MemoryRuntimeStore(), dispatcher)
            await kept.save("StockPlan", "plan-1", BODY)
            assert (await execute(kept, Gate()))["status"] == "executed"
        assert [each is threading.main_thread() for each in threads] == [True, False]

    @pytest.mark.parametrize(
        ("gives", "outcome"),
        [
            (None, {"entitiesAffected": 0}),
            ({"entitiesAffected": 0}, {"entitiesAffected": 0}),
            ({"entitiesAffected": 2, "summary": None}, {"entitiesAffected": 2}),
            (
                {"entitiesAffected": 2, "details": [{"a": (1,)}]},
                {"entitiesAffected": 2, "details": [{"a": [1]}]},
            ),
        ],
    )
    async def test_what_it_did_is_the_result(self, gives: Any, outcome: dict[str, Any]) -> None:
        kept = plans(MemoryRuntimeStore(), Dispatcher(gives))
        await kept.save("StockPlan", "plan-1", BODY)
        result = await execute(kept, Gate())
        assert result == {"planId": "plan-1", "status": "executed", **outcome}

    @pytest.mark.parametrize(
        ("gives", "problem"),
        [
            ({"entitiesAffected": "many"}, "'entitiesAffected' is not an integer"),
            ({"entitiesAffected": -1}, "'entitiesAffected' is not an integer"),
            ({"entitiesAffected": True}, "'entitiesAffected' is not an integer"),
            ({"entitiesAffected": 1.0}, "'entitiesAffected' is not an integer"),
            ({}, "'entitiesAffected' is not an integer"),
            (5, "a mapping with an 'entitiesAffected'"),
            ({"entitiesAffected": 1, "summary": 5}, "'summary' is not text"),
            ({"entitiesAffected": 1, "count": 5}, "'count' is not one of entitiesAffected"),
            ({"entitiesAffected": 1, "details": object()}, "details that are not JSON"),
            (KeyError("sku"), "the action dispatcher failed: KeyError: 'sku'"),
            (SystemExit(3), "SystemExit: 3"),
        ],
    )
    async def test_anything_else_fails_the_plan_for_good_and_is_said(
        self, gives: Any, problem: str, reopen: Reopen
    ) -> None:
        done = Dispatcher(gives)
        await plans(reopen()).save("StockPlan", "plan-1", BODY)
        gate = Gate(APPROVE)
        result = await execute(plans(reopen(), done), gate)
        assert result.keys() == {"error", "planId"}
        assert problem in result["error"]
        assert gate.steps[-1] == "executing -> failed"
        assert await execute(plans(reopen(), done), Gate(APPROVE)) == result
        assert len(done.calls) == 1

    async def test_a_reference_that_is_gone_is_said_before_anybody_is_asked(
        self, reopen: Reopen
    ) -> None:
        ref = {"kind": "SkuSet", "id": "0" * 32}
        await plans(reopen()).save("StockPlan", "plan-1", body({"kind": "k", "references": [ref]}))
        gate, done = Gate(APPROVE), Dispatcher()
        assert "cannot be resolved" in (await execute(plans(reopen(), done), gate))["error"]
        assert (gate.steps, done.calls) == ([], [])
        known = await plans(reopen()).get("plan-1")
        assert known is not None
        assert known["status"] == "draft"
