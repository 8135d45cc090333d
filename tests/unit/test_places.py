"""Where the files of a user without a home are."""

from __future__ import annotations

from pathlib import Path

import pytest

from paddock._places import config_directory
from paddock.errors import ConfigError


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
