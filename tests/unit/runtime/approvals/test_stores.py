"""What every store of approvals promises."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime as dt
import threading
from typing import TYPE_CHECKING

import pytest

from paddock.errors import ApprovalError
from paddock.runtime.approvals import stores
from paddock.runtime.core.approval import Decision
from tests.unit.runtime.approvals.conftest import request

if TYPE_CHECKING:
    from paddock.runtime.core.approval import ApprovalStore
    from tests.unit.runtime.approvals.conftest import Reopen

APPROVE = Decision(outcome="approve", by="ann")
REJECT = Decision(outcome="reject", feedback="not today", by="bob")
LONG_AGO = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)


async def test_a_request_is_as_it_was_asked_whoever_looks(
    store: ApprovalStore, reopen: Reopen
) -> None:
    asked = request(expires_at=dt.datetime(2999, 1, 1, tzinfo=dt.UTC))
    known = await store.ask(asked)
    assert (known.request, known.status, known.answer) == (asked, "pending", None)
    assert await reopen().get("one") == known
    assert await store.get("two") is None


async def test_the_first_answer_counts_and_the_same_one_again_changes_nothing(
    store: ApprovalStore, reopen: Reopen
) -> None:
    await store.ask(request())
    answered = await store.resolve("one", REJECT)
    assert (answered.status, answered.answer) == ("answered", REJECT)
    assert await reopen().resolve("one", REJECT) == answered
    with pytest.raises(ApprovalError, match="answered already: reject by bob") as raised:
        await reopen().resolve("one", APPROVE)
    assert raised.value.code == "answered"
    assert await reopen().get("one") == answered


async def test_asking_again_finds_the_answer(store: ApprovalStore, reopen: Reopen) -> None:
    await store.ask(request())
    answered = await store.resolve("one", APPROVE)
    assert await reopen().ask(request(asked_at=LONG_AGO)) == answered


async def test_what_nobody_knows_cannot_be_answered(store: ApprovalStore) -> None:
    for attempt in (store.resolve("none", APPROVE), store.wait("none")):
        with pytest.raises(ApprovalError, match="approval none: there is no such") as raised:
            await attempt
        assert raised.value.code == "unknown"


async def test_requests_are_listed_in_order_by_session_and_status(
    store: ApprovalStore, reopen: Reopen
) -> None:
    for name in ("one", "two", "three"):
        await store.ask(request(name))
    await store.ask(request("other", session_id="s2"))
    await store.resolve("two", APPROVE)
    await store.withdraw(["three", "unknown", "two"])
    seen = reopen()
    assert [each.request.id for each in await seen.list()] == ["one", "two", "three", "other"]
    assert [each.request.id for each in await seen.list(session_id="s2")] == ["other"]
    assert [each.request.id for each in await seen.list(status="pending")] == ["one", "other"]
    assert [each.request.id for each in await seen.list(status="answered")] == ["two"]
    assert [each.request.id for each in await seen.list(status="withdrawn")] == ["three"]


async def test_a_request_whose_time_is_over_is_refused_with_that_reason(
    store: ApprovalStore,
) -> None:
    await store.ask(request(expires_at=LONG_AGO))
    known = await store.get("one")
    assert known is not None
    assert (known.status, known.decision) == ("expired", None)
    answer = await store.wait("one")
    assert answer == known.answer
    assert (answer.outcome, answer.feedback) == (
        "reject",
        "nobody answered before 2001-01-01 00:00:00 UTC",
    )
    with pytest.raises(ApprovalError, match="expired at 2001") as raised:
        await store.resolve("one", APPROVE)
    assert raised.value.code == "expired"


async def test_what_was_withdrawn_cannot_be_answered_until_it_is_asked_again(
    store: ApprovalStore, reopen: Reopen
) -> None:
    await store.ask(request())
    await store.withdraw(["one"])
    for attempt in (store.resolve("one", APPROVE), store.wait("one")):
        with pytest.raises(ApprovalError, match="it is no longer needed") as raised:
            await attempt
        assert raised.value.code == "withdrawn"
    await reopen().ask(request())
    assert (await reopen().resolve("one", APPROVE)).status == "answered"


async def test_revised_arguments_have_to_fit_the_tool(store: ApprovalStore) -> None:
    await store.ask(request())
    for partial in ({"count": "many"}, {"unheard": 1}):
        with pytest.raises(ApprovalError, match="do not fit the tool 'deploy'") as raised:
            await store.resolve("one", Decision(outcome="revise", partial=partial))
        assert raised.value.code == "arguments"
    revised = Decision(outcome="revise", partial={"count": 3}, feedback="only three")
    assert (await store.resolve("one", revised)).answer == revised


async def test_a_wait_ends_when_somebody_else_answers(store: ApprovalStore, reopen: Reopen) -> None:
    await store.ask(request())
    waiting = asyncio.create_task(store.wait("one"))
    await asyncio.sleep(0)
    await reopen().resolve("one", REJECT)
    async with asyncio.timeout(30):
        assert await waiting == REJECT


async def test_a_wait_that_is_cancelled_leaves_the_request_pending(store: ApprovalStore) -> None:
    await store.ask(request())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await store.wait("one")
    known = await store.get("one")
    assert known is not None
    assert known.status == "pending"


def test_of_threads_that_answer_at_once_exactly_one_wins(reopen: Reopen) -> None:
    store = reopen()
    names = [f"a{number}" for number in range(4)]
    together = threading.Barrier(8)

    def race(number: int) -> list[str]:
        outcome = "approve" if number % 2 else "reject"
        return asyncio.run(compete(reopen(), names, outcome, together))

    async def ask_all() -> None:
        for name in names:
            await store.ask(request(name))

    asyncio.run(ask_all())
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        won = [name for each in threads.map(race, range(8)) for name in each]
    assert sorted(won) == names


async def compete(
    store: ApprovalStore, names: list[str], outcome: str, together: threading.Barrier
) -> list[str]:
    won = []
    decision = Decision(outcome=outcome, by=str(threading.get_ident()))  # type: ignore[arg-type]
    for name in names:
        together.wait(60)
        try:
            await store.resolve(name, decision)
        except ApprovalError as error:
            assert error.code == "answered"  # noqa: PT017 - any number of times, or never
        else:
            won.append(name)
    return won


@pytest.mark.parametrize("answer", [APPROVE, None])
async def test_who_waits_is_woken_by_an_answer_or_a_withdrawal_in_the_same_process(
    store: ApprovalStore, monkeypatch: pytest.MonkeyPatch, answer: Decision | None
) -> None:
    monkeypatch.setattr(stores, "POLL_INTERVAL", 3600.0)
    await store.ask(request())
    waiting = asyncio.create_task(store.wait("one"))
    await asyncio.sleep(0)

    async def elsewhere() -> None:
        await (store.withdraw(["one"]) if answer is None else store.resolve("one", answer))

    await asyncio.to_thread(asyncio.run, elsewhere())
    async with asyncio.timeout(30):
        if answer is not None:
            assert await waiting == answer
            return
        with pytest.raises(ApprovalError, match="no longer needed"):
            await waiting
