"""Telemetry on its way: to a collector over a real socket, and out of the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from paddock import Agent, AgentConfig, ObservabilityConfig, ScriptedModel, Session
from paddock.runtime.telemetry import OtlpBackend, attach, exporters, otel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.e2e.conftest import Paddock

TURNS: list[dict[str, Any]] = [
    {
        "tool_calls": [{"name": "bash", "arguments": {"command": "echo found"}}],
        "usage": {"input_tokens": 10, "output_tokens": 5},
    },
    {"text": "There it is.", "usage": {"input_tokens": 20, "output_tokens": 7}},
]


@dataclass
class Collector:
    """What came to an OpenTelemetry collector of ours. `silent` ones never answer."""

    address: str = ""
    silent: bool = False
    headers: list[str] = field(default_factory=list)
    spans: list[Any] = field(default_factory=list)
    resource: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def take_spans(self, request: web.Request) -> web.Response:
        await self._answer(request)
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for each in sent.resource_spans:
            self.resource |= {a.key: a.value.string_value for a in each.resource.attributes}
            self.spans += [span for scope in each.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    async def take_metrics(self, request: web.Request) -> web.Response:
        await self._answer(request)
        sent = ExportMetricsServiceRequest.FromString(await request.read())
        for each in sent.resource_metrics:
            for scope in each.scope_metrics:
                self.metrics |= {metric.name: metric for metric in scope.metrics}
        return web.Response(content_type="application/x-protobuf")

    async def _answer(self, request: web.Request) -> None:
        self.headers.append(request.headers.get("x-key", ""))
        if self.silent:
            await self.left.wait()


@contextlib.asynccontextmanager
async def collecting(*, silent: bool = False) -> AsyncIterator[Collector]:
    collector = Collector(silent=silent)
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take_spans)
    app.router.add_post("/v1/metrics", collector.take_metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        collector.address = "http://{}:{}".format(*runner.addresses[0][:2])
        yield collector
    finally:
        collector.left.set()
        await runner.cleanup()


async def run_observed(address: str, **options: Any) -> None:
    """One run of an agent with a sandbox, told to the collector at `address`."""
    config = ObservabilityConfig(
        team_id="blue",
        project_id="search",
        backend=OtlpBackend(endpoint=address, headers={"x-key": "secret"}, **options),
    )
    agent = Agent(AgentConfig(backend="local", profile="developer", model="gpt-5-mini"))
    async with Session(agent, client=ScriptedModel(TURNS)) as session:
        telemetry = attach(session, config)
        assert telemetry is not None
        await telemetry.start()
        result = await session.run("Look.")
        assert result.status == "completed"
        await telemetry.close(result.status)


async def test_a_collector_gets_the_spans_and_the_metrics_of_a_run() -> None:
    async with collecting() as collector:
        await run_observed(collector.address)
    by_id = {span.span_id: span for span in collector.spans}
    tree = {(span.name, by_id[span.parent_span_id].name) for span in collector.spans[:-1]}
    assert tree == {
        ("chat gpt-5-mini", "invoke_agent"),
        ("execute_tool bash", "invoke_agent"),
        ("provision local", "execute_tool bash"),
        ("exec local", "execute_tool bash"),
    }
    assert len({span.trace_id for span in collector.spans}) == 1
    assert collector.resource["service.name"] == "paddock"
    assert set(collector.headers) == {"secret"}
    assert set(collector.metrics) == {
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration",
    }
    points = collector.metrics["gen_ai.client.token.usage"].histogram.data_points
    assert sorted(point.sum for point in points) == [12, 30]


@pytest.mark.parametrize("silent", [True, False])
async def test_a_collector_that_is_gone_or_silent_keeps_a_session_only_for_a_moment(
    silent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporters, "EXPORT_TIMEOUT", 0.5)
    monkeypatch.setattr(otel, "CLOSE_TIMEOUT", 2.0)
    async with collecting(silent=silent) as collector:
        address = collector.address if silent else "http://127.0.0.1:9"
        before = time.monotonic()
        await run_observed(address)
        assert time.monotonic() - before < 10.0


GLOBAL = """
import asyncio, sys
from opentelemetry import metrics, trace
from paddock import Agent, AgentConfig, ObservabilityConfig, ScriptedModel, Session
from paddock.runtime.telemetry import OtlpBackend, attach

async def main() -> None:
    backend = OtlpBackend(endpoint="http://127.0.0.1:9", set_global=True)
    config = ObservabilityConfig(team_id="a", project_id="b", backend=backend)
    session = Session(Agent(AgentConfig()), client=ScriptedModel([]))
    before = type(trace.get_tracer_provider()).__name__
    telemetry = attach(session, config)
    await telemetry.start()
    print(before, type(trace.get_tracer_provider()).__name__)

asyncio.run(main())
"""


def test_the_providers_of_the_process_are_ours_only_if_asked() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GLOBAL], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == ["ProxyTracerProvider", "TracerProvider"]


def test_importing_paddock_imports_no_opentelemetry_and_no_database() -> None:
    program = (
        "import sys, paddock; paddock.ObservabilityInitializationError;"
        "print([name for name in ('opentelemetry', 'sqlite3', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


KILLED = """
import asyncio, os, signal, sys
from paddock import Agent, AgentConfig, ObservabilityConfig, ScriptedModel, Session
from paddock.runtime.telemetry import SqliteBackend, attach
from pathlib import Path

async def main() -> None:
    backend = SqliteBackend(path=Path(sys.argv[1]))
    config = ObservabilityConfig(team_id="a", project_id="b", backend=backend)
    for number in range(2):
        client = ScriptedModel([{"text": "Hello."}])
        session = Session(Agent(AgentConfig()), session_id=f"s{number}", client=client)
        telemetry = attach(session, config)
        await telemetry.start()
        await session.run("Hello?")
        if number:
            os.kill(os.getpid(), signal.SIGKILL)
        await telemetry.close()

asyncio.run(main())
"""


def test_a_process_that_is_killed_leaves_a_database_that_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.db"
    subprocess.run([sys.executable, "-c", KILLED, path], timeout=30, check=False)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = dict(connection.execute("SELECT session_id, status FROM sessions"))
    assert found["s0"] == "completed"
    assert found.get("s1", "active") == "active"


SCRIPT = json.dumps(TURNS)


@pytest.mark.rows("S-62", "S-64")
def test_a_session_is_exported_and_shown_with_its_costs(paddock: Paddock) -> None:
    (paddock.cwd / "script.json").write_text(SCRIPT)
    ran = paddock("run", "Look.", "--model", "scripted:script.json", "-y")
    assert ran.returncode == 0, ran.stderr
    exported = paddock("export", "latest")
    trajectory = json.loads(exported.stdout)
    assert trajectory["schema_version"] == "ATIF-v1.6"
    assert [step["source"] for step in trajectory["steps"]] == ["user", "agent", "agent"]
    written = paddock("export", trajectory["session_id"][:4], "-o", "run.json")
    assert (written.returncode, written.stdout) == (0, "")
    assert json.loads((paddock.cwd / "run.json").read_text()) == trajectory
    shown = paddock("sessions", "show").stdout
    assert "answered in" in shown
    assert "total: 1 run, 2 model calls, 1 tool call: 30 tokens in, 12 out" in shown


def test_what_is_exported_is_a_new_file_for_its_owner_alone(paddock: Paddock) -> None:
    (paddock.cwd / "script.json").write_text(SCRIPT)
    assert paddock("run", "Look.", "--model", "scripted:script.json", "-y").returncode == 0
    file = paddock.cwd / "run.json"
    assert paddock("export", "-o", "run.json").returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("mine")
    again = paddock("export", "-o", "run.json")
    assert again.returncode == 1
    assert "run.json: it exists, and is not written over" in again.stderr
    assert file.read_text() == "mine"


@pytest.mark.rows("S-62")
def test_what_cannot_be_exported_says_so(paddock: Paddock) -> None:
    empty = paddock("export", "--dir", ".")
    assert (empty.returncode, empty.stdout) == (1, "")
    assert "there are no sessions in" in empty.stderr
    unknown = paddock("export", "zzzz", "--dir", ".")
    assert unknown.returncode == 1
    assert "zzzz" in unknown.stderr
