"""Where telemetry of a test goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.runtime.telemetry.collecting import Collected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def collected() -> Iterator[Collected]:
    collected = Collected()
    yield collected
    collected.tracers.shutdown()
    collected.meters.shutdown()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.db"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TEAM_ID", "PROJECT_ID", "OBSERVABILITY_CONFIG"):
        monkeypatch.delenv(f"PADDOCK_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "paddock"
