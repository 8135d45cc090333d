"""Where the files of a user without a home are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock._places import cache_directory, config_directory, state_directory
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


def test_without_a_home_nothing_is_looked_for_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_: Path("~/.config/paddock"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    place = config_directory()
    assert place.parent == tmp_path
    place.mkdir(mode=0o700)
    assert config_directory() == place
    place.chmod(0o777)
    with pytest.raises(ConfigError, match="set HOME or XDG_CONFIG_HOME"):
        config_directory()
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="set HOME"):
        config_directory()


def _raise(*_: object) -> Path:
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize(
    "find", [_raise, lambda *_: Path("/proc/1/paddock"), lambda *_: Path("/proc/nowhere/paddock")]
)
def test_a_home_that_is_missing_or_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, find: Callable[..., Path]
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("os.access", lambda *_: False)
    for kind in ("cache", "config", "state"):
        monkeypatch.setattr(f"platformdirs.user_{kind}_path", find)
    assert {config_directory().parent, cache_directory().parent} == {tmp_path}
    assert config_directory() != cache_directory()
    assert state_directory() is None


def test_a_directory_that_is_there_is_used_though_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_: tmp_path)
    assert config_directory() == tmp_path
