"""Which sandbox an id on the command line means."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from paddock.backends import base
from paddock.backends.base import SandboxInfo
from paddock.cli.sandboxes import find, ls
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


def there(*ids: str) -> list[SandboxInfo]:
    now = datetime.now(UTC)
    return [
        SandboxInfo(id=name, backend="any", state="running", owner="alive", created=now)
        for name in ids
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("abc1", "abc1"),
        ("abc", "abc"),
        ("paddock-d", "paddock-d00f"),
        ("d0", "paddock-d00f"),
        ("paddock-d00f", "paddock-d00f"),
    ],
)
def test_an_id_or_the_beginning_of_one_is_enough(name: str, meant: str) -> None:
    assert find(there("abc", "abc1", "paddock-d00f"), name).id == meant


def test_the_beginning_of_several_means_none_of_them() -> None:
    with pytest.raises(ConfigError, match="'ab' may be any of abc, paddock-abd"):
        find(there("abc", "paddock-abd", "x"), "ab")


@pytest.mark.parametrize("name", ["", "z", "00f", "paddock-paddock-"])
def test_what_begins_no_id_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="paddock ls"):
        find(there("abc", "paddock-d00f"), name)


class Listing:
    async def list(self, labels: Mapping[str, str]) -> list[SandboxInfo]:
        (info,) = there("abc")
        return [replace(info, image="registry/" + "i" * 100, labels={"task": "t" * 100})]


def test_a_pipe_gets_a_table_that_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "get_backend", lambda name: Listing)
    monkeypatch.setattr(sys, "stdout", out := io.StringIO())
    ls(backend="any")
    _, row = out.getvalue().splitlines()
    assert "registry/" + "i" * 100 in row
    assert "task=" + "t" * 100 in row
