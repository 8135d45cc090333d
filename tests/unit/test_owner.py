"""Locks of sandboxes: their makers', and of those who join."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

from paddock.backends.owner import OwnerLock, folder, forget_dead, is_alive, is_owned

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_sandbox_is_owned_as_long_as_anybody_holds_it() -> None:
    maker = OwnerLock.take()
    first, second = OwnerLock.join(maker.name), OwnerLock.join(maker.name)
    assert (maker.is_makers, first.is_makers) == (True, False)
    assert first.name == second.name == maker.name
    for lock in (maker, first, second):
        assert not forget_dead()
        assert is_alive(maker.name)
        assert is_owned(maker.name)
        lock.release()
    assert not is_alive(maker.name)
    assert not is_owned(maker.name)
    assert not list(folder().iterdir())


@pytest.mark.parametrize("name", ["../../other", "a/b", "*", "[a-z]", "+", "..", ""])
def test_any_text_is_a_name_and_no_other_one(name: str) -> None:
    maker, lock = OwnerLock.take(), OwnerLock.join(name)
    assert lock.path.parent == folder()
    assert is_alive(name)
    maker.release()
    assert not is_alive(maker.name)
    lock.release()
    assert not is_alive(name)
