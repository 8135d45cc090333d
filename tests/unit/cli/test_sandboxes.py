"""Which sandbox an id on the command line means."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from paddock.backends.base import SandboxInfo
from paddock.cli.sandboxes import _find
from paddock.errors import ConfigError


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
    assert _find(there("abc", "abc1", "paddock-d00f"), name).id == meant


def test_the_beginning_of_several_means_none_of_them() -> None:
    with pytest.raises(ConfigError, match="'ab' may be any of abc, paddock-abd"):
        _find(there("abc", "paddock-abd", "x"), "ab")


@pytest.mark.parametrize("name", ["", "z", "00f", "paddock-paddock-"])
def test_what_begins_no_id_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match="paddock ls"):
        _find(there("abc", "paddock-d00f"), name)
