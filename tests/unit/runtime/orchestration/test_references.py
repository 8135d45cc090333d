"""References: F-22, and what F-31 gives of them."""

from __future__ import annotations

import datetime as dt
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field, model_serializer

from paddock import PaddockError, ReferenceFailed
from paddock.runtime.orchestration.define import define_reference
from paddock.runtime.orchestration.references import References
from paddock.runtime.orchestration.stores.memory import MemoryRuntimeStore
from tests.unit.runtime.orchestration.storing import SKU_SET, STORES, Reopen, references, reopener

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.rows("F-22")

VALUE = {"skus": ["s-1", "s-2"]}


@pytest.fixture(params=STORES)
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    return reopener(request.param, tmp_path)


class Skus(BaseModel):
    model_config = {"populate_by_name": True}
    skus: list[str] = Field(alias="theSkus")


@dataclass
class Ref:
    kind: str
    id: str


async def test_a_value_is_given_back_whole_and_its_glimpse_alone(reopen: Reopen) -> None:
    ref = await references(reopen()).create(SKU_SET, VALUE)
    assert ref == {"kind": "SkuSet", "id": ref["id"], "glimpse": {"n": 2}}
    assert re.fullmatch("[0-9a-f]{32}", ref["id"])
    for form in (ref, {"kind": "SkuSet", "id": ref["id"]}, Ref("SkuSet", ref["id"])):
        assert await references(reopen()).resolve(form) == VALUE
        assert await references(reopen()).glimpse(form) == {"n": 2}


async def test_the_same_value_has_the_same_id_and_another_one_another(reopen: Reopen) -> None:
    kept = references(reopen())
    one = await kept.create("SkuSet", {"skus": ["a"], "more": {"x": 1, "y": 2}})
    assert (await references(reopen()).create(SKU_SET, {"more": {"y": 2, "x": 1}, "skus": ["a"]}))[
        "id"
    ] == one["id"]
    assert (await kept.create("SkuSet", {"skus": ["b"]}))["id"] != one["id"]
    elsewhere = references(MemoryRuntimeStore())
    assert (await elsewhere.create("SkuSet", {"skus": ["b"]}))["id"] != one["id"]


async def test_a_value_that_is_changed_later_stays_as_it_was_kept(reopen: Reopen) -> None:
    value = {"skus": ["s-1"]}
    kept = references(reopen())
    ref = await kept.create("SkuSet", value, glimpse={"skus": value["skus"]})
    value["skus"].append("s-2")
    (await kept.resolve(ref))["skus"].append("s-3")
    assert await kept.resolve(ref) == {"skus": ["s-1"]}
    assert await kept.glimpse(ref) == {"skus": ["s-1"]}


async def test_the_callback_gets_the_value_as_it_was_given_once_in_a_thread() -> None:
    seen: list[tuple[Any, threading.Thread]] = []

    def see(value: Skus) -> dict[str, int]:
        seen.append((value, threading.current_thread()))
        return {"n": len(value.skus)}

    spec = define_reference("Skus", Skus, glimpse=see)
    kept = references(MemoryRuntimeStore(), spec)
    value = Skus(theSkus=["s-1"])
    ref = await kept.create(spec, value)
    assert (await kept.glimpse(ref), await kept.resolve(ref)) == ({"n": 1}, {"theSkus": ["s-1"]})
    [(given, thread)] = seen
    assert given is value
    assert thread is not threading.main_thread()


async def test_a_value_that_may_be_big_is_checked_in_a_thread() -> None:
    threads = []

    class Noting(BaseModel):
        skus: list[str]

        @model_serializer
        def note(self) -> dict[str, Any]:
            threads.append(threading.current_thread())
            return {"skus": self.skus}

    await references(MemoryRuntimeStore()).create("SkuSet", Noting(skus=["s-1"]))
    assert threads
    assert threading.main_thread() not in threads


async def test_a_callback_may_be_async_and_what_it_raises_keeps_nothing() -> None:
    async def fail(value: Any) -> Any:
        raise KeyError(value["skus"][0])

    spec = define_reference("SkuSet", {"skus": list[str]}, glimpse=fail)
    store = MemoryRuntimeStore()
    with pytest.raises(KeyError, match="s-1"):
        await references(store, spec).create(spec, VALUE)
    assert store.tenants() == []


async def test_a_kind_by_its_name_gets_the_glimpse_that_is_given_or_an_empty_one() -> None:
    kept = references(MemoryRuntimeStore())
    assert (await kept.create("SkuSet", VALUE))["glimpse"] == {}
    assert (await kept.create("SkuSet", VALUE, glimpse=["two"]))["glimpse"] == ["two"]


async def test_created_again_it_has_the_glimpse_and_the_time_of_the_last_time(
    reopen: Reopen,
) -> None:
    lasting = references(reopen(), define_reference("SkuSet", {"skus": list[str]}))
    brief = references(reopen(), define_reference("SkuSet", {"skus": list[str]}, ttl_ms=1))
    await lasting.create("SkuSet", VALUE, glimpse=1)
    ref = await brief.create("SkuSet", VALUE, glimpse=2)
    with pytest.raises(ReferenceFailed) as caught:
        while True:
            assert await lasting.glimpse(ref) == 2
    assert caught.value.code == "expired"
    await lasting.create("SkuSet", VALUE, glimpse=3)
    assert await brief.glimpse(ref) == 3


async def test_a_reference_may_last_for_longer_than_dates_do() -> None:
    kept = references(
        MemoryRuntimeStore(), define_reference("SkuSet", {"skus": list[str]}, ttl_ms=10**30)
    )
    assert await kept.resolve(await kept.create("SkuSet", VALUE)) == VALUE


async def test_there_are_five_errors_and_of_three_nobody_can_tell_which(reopen: Reopen) -> None:
    spec = define_reference("SkuSet", {"skus": list[str]}, ttl_ms=1)
    brief, kept = references(reopen(), spec), references(reopen())
    identity = (await brief.create("SkuSet", VALUE))["id"]
    theirs = (await references(reopen(), tenant="evil").create("SkuSet", VALUE))["id"]

    async def failure(work: Any) -> ReferenceFailed:
        with pytest.raises(ReferenceFailed) as caught:
            while True:
                await work()
        assert isinstance(caught.value, PaddockError | RuntimeError)
        return caught.value

    unknown = await failure(lambda: kept.create("Nope", VALUE))
    assert str(await failure(lambda: kept.resolve(Ref("Nope", identity)))) == str(unknown)
    assert (unknown.code, "define_runtime(references=[...]) has SkuSet" in str(unknown)) == (
        "unknown_kind",
        True,
    )
    schema = await failure(lambda: kept.create("SkuSet", {"skus": [5]}))
    assert (schema.code, "$.skus[0]: 5 is not of type 'string'" in str(schema)) == ("schema", True)
    texts = set()
    for given, code in ((identity, "expired"), ("0" * 32, "gone"), (theirs, "other_tenant")):
        found = await failure(lambda given=given: kept.resolve(Ref("SkuSet", given)))
        assert found.code == code
        texts.add(str(found).replace(given, "ID"))
    assert len(texts) == 1


@pytest.mark.parametrize("value", [{"skus": [5]}, {}, {"skus": {1}}, object(), float("nan")])
async def test_nothing_is_kept_of_a_value_that_does_not_fit(value: Any, reopen: Reopen) -> None:
    store = reopen()
    with pytest.raises(ReferenceFailed) as caught:
        await references(store).create(SKU_SET, value)
    assert caught.value.code == "schema"
    found = store.transact("acme", lambda rows: [*rows.all("references")], writing=False)
    assert (found, store.tenants()) == ([], [])


@pytest.mark.parametrize("reference", [None, "SkuSet", {}, {"kind": "SkuSet"}, {"id": "x"}, 5])
async def test_what_is_no_reference_is_refused(reference: object) -> None:
    with pytest.raises(TypeError, match="a reference has a `kind` and an `id`"):
        await references(MemoryRuntimeStore()).resolve(reference)


@pytest.mark.parametrize("identity", ["", "../x", "\x00", "\ud800", "A" * 32, "0" * 33, "%" * 32])
async def test_an_id_that_cannot_be_one_is_gone(identity: str, reopen: Reopen) -> None:
    with pytest.raises(ReferenceFailed) as caught:
        await references(reopen()).resolve({"kind": "SkuSet", "id": identity})
    assert caught.value.code == "gone"


async def test_a_kind_that_is_neither_a_spec_nor_text_is_refused() -> None:
    kind: Any = Mapping
    with pytest.raises(TypeError, match="a reference's kind is its spec or its name"):
        await references(MemoryRuntimeStore()).create(kind, VALUE)


async def test_what_has_expired_is_removed_when_others_are_created(
    reopen: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept() -> list[int]:
        store = reopen()
        tables = ("references", "values")
        return store.transact(
            "acme", lambda rows: [len([*rows.all(table)]) for table in tables], writing=False
        )

    spec = define_reference("SkuSet", {"skus": list[str]}, ttl_ms=0)
    brief, lasting = references(reopen(), spec), references(reopen())
    await brief.create("SkuSet", {"skus": ["a"]})
    assert kept() == [1, 1]
    monkeypatch.setattr(f"{References.__module__}.REMEMBERED", dt.timedelta())
    await lasting.create("SkuSet", {"skus": ["b"]})
    assert kept() == [1, 1]
    await brief.create("SkuSet", {"skus": ["c"]})
    assert kept() == [2, 2], "it looked a moment ago"
