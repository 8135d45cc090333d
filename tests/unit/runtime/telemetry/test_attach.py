"""Where there is no telemetry, and where it cannot begin."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from paddock import (
    ObservabilityConfig,
    ObservabilityInitializationError,
)
from paddock.runtime.telemetry import OtlpBackend, SqliteBackend, attach
from tests.unit.runtime.telemetry.keeping import HELLO, config, observe

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.runtime.conftest import OpenSession


@pytest.mark.rows("O-6")
async def test_there_is_none_without_a_tenant_or_switched_off(
    open_session: OpenSession, path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(HELLO)
    assert attach(session) is None
    assert attach(session, team_id="blue") is None
    assert attach(session, project_id="search") is None
    off = ObservabilityConfig(enabled=False, team_id="blue", project_id="search")
    assert attach(session, off) is None
    found = attach(session, team_id="blue", project_id="search")
    assert found is not None
    assert found.config.backend == SqliteBackend(path=home / "telemetry.db")
    monkeypatch.setenv("PADDOCK_TEAM_ID", "red")
    monkeypatch.setenv("PADDOCK_PROJECT_ID", "other")
    found = attach(session)
    assert found is not None
    assert (found.config.team_id, found.config.project_id) == ("red", "other")


@pytest.mark.rows("O-6")
async def test_what_cannot_be_is_one_error_that_says_for_whom(
    open_session: OpenSession, tmp_path: Path, home: Path
) -> None:
    session = open_session(HELLO)
    gone = tmp_path / "gone.yaml"
    with pytest.raises(ObservabilityInitializationError, match="not found") as caught:
        attach(session, gone, team_id="blue", project_id="search")
    error = caught.value
    assert isinstance(error, RuntimeError)
    assert (error.config_path, error.team_id, error.project_id) == (str(gone), "blue", "search")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("tenat: {}")
    with pytest.raises(ObservabilityInitializationError, match="did you mean tenant"):
        attach(session, wrong)
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "telemetry.db"):
        with pytest.raises(ObservabilityInitializationError):
            attach(session, config(place))
    with pytest.raises(ObservabilityInitializationError, match="JSON"):
        attach(session, config(tmp_path / "t.db"), metadata={"a": {1, 2}})


async def test_a_database_that_is_none_is_told_at_the_start(
    open_session: OpenSession, path: Path
) -> None:
    text = "This has never been a database, however long one looks at it." * 20
    await asyncio.to_thread(path.write_text, text)
    telemetry = observe(open_session(HELLO), path)
    with pytest.raises(ObservabilityInitializationError, match="not a database") as caught:
        await telemetry.start()
    assert caught.value.team_id == "blue"
    await telemetry.close()


async def test_a_collector_without_the_extra_is_an_error_that_names_it(
    open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)
    monkeypatch.delitem(sys.modules, "paddock.runtime.telemetry.exporters", raising=False)
    wanted = ObservabilityConfig(team_id="a", project_id="b", backend=OtlpBackend())
    with pytest.raises(ObservabilityInitializationError, match=r"paddock\[otel\]"):
        attach(open_session(HELLO), wanted)
