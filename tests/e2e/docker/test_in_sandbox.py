"""An agent inside a container of the agent image, with a scripted model and no network."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    ArtifactUploadResult,
    CancelledException,
    CommandInterface,
    ExecuteCommandsOptions,
    QueryOptions,
    StructuredOutputResult,
    TextResult,
    serve,
)
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.images.build import ensure
from tests.unit.runtime.remote.cutting import cutting

if TYPE_CHECKING:
    from paddock import RuntimeUseClient, Sandbox
    from paddock.backends.docker.engine.client import Engine

PATIENCE = 120.0
SECRET = "sk-very-secret-key"
SCRIPT = f"""\
- text: I look at {SECRET[:9]}.
  tool_calls:
    - name: bash
      arguments:
        command: "echo $KEY; echo {SECRET} > out/{SECRET}.txt; echo made > out/made.txt"
- expect: sk-very
  text: "It says {SECRET}."
- text: "never"
"""
HANGING = """\
- text: I wait.
  tool_calls:
    - name: bash
      arguments: {command: "sleep 7771 & setsid sleep 7772 & sleep 7773"}
"""
STORE = """\
import http.server, pathlib

class Store(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        pathlib.Path("store", self.path[1:]).write_bytes(data)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass

pathlib.Path("store").mkdir()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Store)
print("listening", flush=True)
server.serve_forever()
"""


def options(**more: Any) -> QueryOptions:
    return QueryOptions("s", "m", **({"timeout": PATIENCE} | more))


async def where(request: Any) -> ArtifactUploadResult:
    name = request.filename.replace("[REDACTED]", "hidden")
    return ArtifactUploadResult(presigned_url=f"http://127.0.0.1:8000/{name}", content_type="t")


@pytest.mark.timeout(400)
@pytest.mark.rows("U-22", "U-24", "U-25", "U-31")
async def test_an_agent_inside_a_container_is_served(engine: Engine) -> None:
    image = await ensure(engine, "paddock:agent")
    async with DockerBackend(image=image, network="none").sandbox() as sandbox:
        await sandbox.fs.write_text("script.yaml", SCRIPT)
        await sandbox.fs.write_text("hanging.yaml", HANGING)
        await sandbox.fs.write_text("store.py", STORE)
        async with await sandbox.start(["python3", "store.py"]) as store:
            async for _ in store.output():
                break
            async with serve(sandbox, agent="scripted:script.yaml") as client:
                await artifacts_arrive_and_no_secret_is_told(client, sandbox)
                await nothing_is_lost_where_connections_break(client)
            async with serve(sandbox, agent="scripted:hanging.yaml") as client:
                await a_cancellation_leaves_no_process(client, sandbox)


async def artifacts_arrive_and_no_secret_is_told(
    client: RuntimeUseClient, sandbox: Sandbox
) -> None:
    said: list[str] = []
    told: list[str] = []

    async def on_assistant(message: Any) -> None:
        said.extend(message.text_blocks)

    async def on_output(message: Any) -> None:
        told.append(message.model_dump_json())

    result = await client.query(
        "Go.",
        options(
            agent_env={"KEY": SECRET},
            secrets_to_redact=[SECRET],
            artifacts_dirs=["out"],
            on_artifact_upload_request=where,
            on_assistant_message=on_assistant,
            on_command_output=on_output,
            pre_agent_invocation_commands=[
                CommandInterface(command=f"echo {SECRET}; mkdir -p out")
            ],
        ),
    )
    assert result.data == TextResult(text="It says [REDACTED].")
    assert result.metadata is not None
    assert [each["status"] for each in result.metadata["artifacts"]] == ["uploaded"] * 2
    assert SECRET not in json.dumps([result.model_dump(), said, told])
    listed = await sandbox.exec("cd store; ls; cat made.txt hidden.txt")
    assert listed.stdout == f"hidden.txt\nmade.txt\nmade\n{SECRET}\n"


async def nothing_is_lost_where_connections_break(client: RuntimeUseClient) -> None:
    address = client._transport.ws_url  # type: ignore[attr-defined]
    port = int(address.partition("//")[2].partition("/")[0].rpartition(":")[2])
    budget = iter(range(1500, 100_000, 700))
    async with cutting(port, lambda: next(budget)) as cutter:
        client._transport.ws_url = address.replace(str(port), cutter.url.rpartition(":")[2])  # type: ignore[attr-defined]
        lines: list[str] = []

        async def on_output(message: Any) -> None:
            lines.append(message.text)

        done = await client.execute_commands(
            [CommandInterface(command="for n in $(seq 60); do echo $n; sleep 0.02; done")],
            ExecuteCommandsOptions(on_command_output=on_output, timeout=PATIENCE),
        )
        wanted = "".join(f"{number}\n" for number in range(1, 61))
        assert done.results[0].stdout == wanted
        assert "".join(lines) == wanted
        assert cutter.cuts
    client._transport.ws_url = address  # type: ignore[attr-defined]


async def a_cancellation_leaves_no_process(client: RuntimeUseClient, sandbox: Sandbox) -> None:
    started = asyncio.Event()

    async def on_assistant(_: Any) -> None:
        started.set()

    call = asyncio.create_task(client.query("Go.", options(on_assistant_message=on_assistant)))
    async with asyncio.timeout(PATIENCE):
        await started.wait()
        while (await sandbox.exec("pgrep -c -x sleep")).stdout != "3\n":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    client.abort()
    with pytest.raises(CancelledException):
        await call
    assert (await sandbox.exec("pgrep -x sleep")).stdout == ""


@pytest.mark.timeout(300)
@pytest.mark.rows("U-9", "U-17")
async def test_a_container_for_synchronous_code_runs_npx_runtimeuse(engine: Engine) -> None:
    from paddock.sync import Running, Sandbox

    await ensure(engine, "paddock:agent")

    def quick_start() -> Any:
        with Sandbox.create() as sandbox:
            running = sandbox.run("npx -y runtimeuse --agent echo")
            assert isinstance(running, Running)
            return asyncio.run(ask(sandbox.get_url(8080)))

    async def ask(url: str) -> Any:
        from paddock import RuntimeUseClient

        prompt = 'STRUCTURED:{"success": true}'
        return (await RuntimeUseClient(ws_url=url).query(prompt, options())).data

    found = await asyncio.to_thread(quick_start)
    assert found == StructuredOutputResult(structured_output={"success": True})
