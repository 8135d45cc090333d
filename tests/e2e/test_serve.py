"""``paddock serve`` as a program, and what talks to it from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from paddock import (
    AgentRuntimeError,
    ArtifactUploadResult,
    ConfigError,
    LocalBackend,
    PodmanBackend,
    QueryOptions,
    RuntimeUseClient,
    SshBackend,
    TextResult,
    serve,
)
from paddock.backends.local import probe
from paddock.sync import Running, Sandbox
from tests.unit.runtime.remote.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Require
    from tests.e2e.conftest import Daytona

PATIENCE = 60.0
SCRIPT = """\
- text: I look around.
  tool_calls:
    - name: bash
      arguments: {command: "pwd; echo $FOO; echo key=$OPENAI_API_KEY; echo made > out/made.txt"}
- expect: bar
  text: '{"n": "x"}'
- expect: "$.n"
  text: '{"n": null}'
- text: '{"n": 3}'
"""
SLOW = """\
import asyncio

async def run(invocation, sender):
    await sender.send_assistant_message(["here"])
    await asyncio.sleep(0.5)
    return "done"
"""
SCHEMA = '{"type": "object", "properties": {"n": {"type": "integer"}}}'


class Served:
    """A server as a process."""

    def __init__(self, folder: Path, *arguments: str, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "paddock", "serve", "--state-dir", "state", *arguments],
            cwd=folder,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self, count: int) -> list[str]:
        assert self.process.stdout is not None
        return [self.process.stdout.readline().rstrip() for _ in range(count)]

    @property
    def url(self) -> str:
        first, second = self.lines(2)
        assert first.startswith("RuntimeUse server listening on port ")
        return second.removeprefix("Connect to ")


@contextmanager
def served(folder: Path, *arguments: str, **env: str) -> Iterator[Served]:
    made = Served(folder, *arguments, **env)
    try:
        yield made
    finally:
        made.process.terminate()
        made.process.communicate(timeout=PATIENCE)


def options(**more: Any) -> QueryOptions:
    return QueryOptions("Write to README.md", "m", **({"timeout": PATIENCE} | more))


async def ask(url: str, prompt: str, **more: Any) -> Any:
    return await RuntimeUseClient(url).query(prompt, options(**more))


def text_of(result: Any) -> str:
    assert isinstance(result.data, TextResult)
    return result.data.text


@pytest.mark.rows("U-17", "U-27", "U-30")
async def test_the_echo_agent_does_what_its_prompt_begins_with(tmp_path: Path) -> None:
    said: list[str] = []

    async def on_assistant(message: Any) -> None:
        said.extend(message.text_blocks)

    with served(tmp_path, "--agent=echo", "--port=0") as server:
        url = server.url
        assert text_of(await ask(url, "ECHO:hello")) == "hello"
        assert text_of(await ask(url, "anything else")) == "anything else"
        assert text_of(await ask(url, "SLOW:5")) == "slow done"
        await ask(url, "STREAM:2", on_assistant_message=on_assistant)
        assert (
            text_of(await ask(url, "STREAM_TEXT:a b", on_assistant_message=on_assistant)) == "a b"
        )
        assert said == ["message 1 of 2", "message 2 of 2", "a", "b"]
        assert (await ask(url, 'STRUCTURED:{"n": 1}')).data.structured_output == {"n": 1}
        await ask(url, "WRITE_FILE:a/b.txt some text")
        assert text_of(await ask(url, "READ_FILE:a/b.txt")) == "some text"
        for wrong, told in (
            ("ERROR:bad", "bad"),
            ("SLOW:x", "whole number"),
            ("STRUCTURED:{", "JSON"),
        ):
            with pytest.raises(AgentRuntimeError, match=told):
                await ask(url, wrong)
    assert (tmp_path / "a/b.txt").read_text() == "some text"


@pytest.mark.rows("U-26", "U-27", "U-24", "U-35")
async def test_an_agent_of_ours_works_with_its_tools_here(tmp_path: Path) -> None:
    (tmp_path / "script.yaml").write_text(SCRIPT)
    said: list[str] = []

    async def on_assistant(message: Any) -> None:
        said.extend(message.text_blocks)

    async with open_store() as store:

        async def where(request: Any) -> Any:
            url = f"{store.url}/{request.relative_path}"
            return ArtifactUploadResult(presigned_url=url, content_type="text/plain")

        with served(tmp_path, "--agent", "scripted:script.yaml", "--port", "0") as server:
            result = await ask(
                server.url,
                "Go.",
                agent_env={"FOO": "bar", "OPENAI_API_KEY": "sk-not-for-commands"},
                output_format_json_schema_str=SCHEMA,
                on_assistant_message=on_assistant,
                artifacts_dirs=["out"],
                on_artifact_upload_request=where,
            )
        assert store.stored == {"/made.txt": b"made\n"}
    assert result.data.structured_output == {"n": 3}
    assert said == ["I look around.", '{"n": "x"}', '{"n": null}', '{"n": 3}']
    assert result.metadata["num_turns"] == 4
    assert set(result.metadata["usage"]) == {"inputTokens", "outputTokens", "totalTokens"}
    assert result.metadata["session_id"]
    changed = {each["path"].rpartition("/")[2] for each in result.metadata["changes"]}
    assert "made.txt" in changed


@pytest.mark.rows("U-26")
async def test_an_output_that_never_fits_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "script.yaml").write_text("- text: no\n- text: no\n- text: no\n")
    text = "structured output does not match the schema"
    with (
        served(tmp_path, "--agent", "scripted:script.yaml", "--port", "0") as server,
        pytest.raises(AgentRuntimeError, match=text),
    ):
        await ask(server.url, "Go.", output_format_json_schema_str=SCHEMA)


@pytest.mark.rows("U-26")
async def test_a_model_without_a_key_says_where_it_goes(tmp_path: Path) -> None:
    with (
        served(tmp_path, "--agent", "claude", "--port", "0", ANTHROPIC_API_KEY="") as server,
        pytest.raises(AgentRuntimeError, match="ANTHROPIC_API_KEY is not set: give it in"),
    ):
        await ask(server.url, "Go.")


@pytest.mark.rows("U-17", "U-19")
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("own.py", "async def run(invocation, sender):\n    return 'own'\n"),
        (
            "own.py:Mine",
            "class Mine:\n    @staticmethod\n    def run(i, s):\n        return 'own'\n",
        ),
        ("own", "class H:\n    def run(self, i, s):\n        return 'own'\nhandler = H()\n"),
    ],
)
async def test_a_handler_of_ones_own_is_served(name: str, code: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(code)
    with served(tmp_path, "--handler", name, "--port", "0") as server:
        assert text_of(await ask(server.url, "x")) == "own"


@pytest.mark.rows("U-17", "U-30")
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--agent", "nobody"], 1, "there is no agent 'nobody'; there are: openai"),
        (["--handler", "missing.py"], 1, "--handler missing.py: FileNotFoundError"),
        (["--handler", "empty.py"], 1, "it has no handler, or a function run(invocation, sender)"),
        (["--handler", "empty.py:x"], 1, "it has no x"),
        (["--handler", "number.py"], 1, "give it a method run(invocation, sender)"),
        (["--agent", "scripted:missing.yaml"], 1, "missing.yaml"),
        (["--agent", "echo", "--host", "0.0.0.0", "--no-token"], 1, "needs a token"),
        (["--port", "99999"], 2, "0 to 65535"),
        (["--nonsense"], 2, "unrecognized arguments"),
        (["--agent", "echo", "--port", "x"], 2, "'x': give a number from 0 to 65535"),
        (["--agent", "echo", "--grace", "long"], 2, "'long': give a number of seconds"),
        (["--agent", "echo", "--allow-origin", "example.org"], 2, "'example.org': give one like"),
    ],
)
def test_what_cannot_be_served_is_told(
    arguments: list[str], code: int, told: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.py").touch()
    (tmp_path / "number.py").write_text("handler = 5\n")
    done = subprocess.run(
        [sys.executable, "-m", "paddock", "serve", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.rows("U-18", "U-30", "N-14")
async def test_a_signal_lets_runs_end_and_a_given_token_is_not_printed(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SLOW)
    server = Served(tmp_path, "--handler", "own.py", "--port", "0", PADDOCK_TOKEN="from-outside-1")
    port = server.lines(1)[0].rpartition(" ")[2]
    client = RuntimeUseClient(f"ws://127.0.0.1:{port}", token="from-outside-1")
    started = asyncio.Event()

    async def on_assistant(_: Any) -> None:
        started.set()

    calling = asyncio.create_task(client.query("x", options(on_assistant_message=on_assistant)))
    await started.wait()
    server.process.send_signal(signal.SIGTERM)
    assert text_of(await calling) == "done"
    out, err = await asyncio.to_thread(server.process.communicate, timeout=PATIENCE)
    assert server.process.returncode == 0
    assert "from-outside" not in out + err


@pytest.mark.rows("U-17")
def test_the_help_needs_nothing_but_what_a_sandbox_has(tmp_path: Path) -> None:
    """Where docker, typer, rich and prompt-toolkit are absent."""
    program = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"docker", "typer", "rich", "prompt_toolkit", "click"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import asyncio, pkgutil
import paddock.runtime.remote
for module in pkgutil.iter_modules(paddock.runtime.remote.__path__):
    __import__(f"paddock.runtime.remote.{module.name}")
from paddock import LocalBackend, QueryOptions, RuntimeServer, RuntimeUseClient
from paddock.runtime.remote.agents import agent_named

async def main():
    async with RuntimeServer(agent_named("echo"), port=0, state_dir="state") as server:
        options = QueryOptions("s", "m", pre_agent_invocation_commands=[{"command": "true"}])
        print((await RuntimeUseClient(server.url).query("ECHO:bare", options)).data.text)

asyncio.run(main())
from paddock.cli import main
assert main(["serve", "--help"]) == 0
assert main(["--version"]) == 0
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("bare\nusage: paddock serve")


# ---------------------------------------------------------------------------- from outside


@pytest.mark.rows("U-9", "U-18")
@pytest.mark.parametrize("isolation", ["none", "bubblewrap"])
async def test_a_local_sandbox_serves_and_leaves_nothing(isolation: Any, require: Require) -> None:
    if isolation == "bubblewrap":
        found = await probe()
        require("bubblewrap", found.level == "bubblewrap", found.reason)
    async with LocalBackend(isolation=isolation).sandbox() as sandbox:
        async with serve(sandbox, agent="echo") as client:
            assert text_of(await client.query("ECHO:inside", options())) == "inside"
        left = await sandbox.exec("pgrep -f 'paddock serv[e]' | wc -l")
        if isolation == "bubblewrap":
            assert left.stdout.strip() == "0"


async def test_what_does_not_start_is_told() -> None:
    async with LocalBackend(isolation="none").sandbox() as sandbox:
        with pytest.raises(Exception, match="there is no agent 'nobody'"):
            async with serve(sandbox, agent="nobody"):
                pass
        with pytest.raises(Exception, match="127"):
            async with serve(sandbox, agent="echo", command=["/no/such/program"]):
                pass


@pytest.mark.rows("U-9")
def test_synchronous_code_uses_the_same_sandboxes() -> None:
    with Sandbox.create(backend=LocalBackend(isolation="none")) as sandbox:
        sandbox.fs.write_text("a.txt", "hello")
        assert sandbox.exec(["cat", "a.txt"]).stdout == "hello"
        assert sandbox.fs.read_text("a.txt") == "hello"
        failed = sandbox.run("echo out; echo err >&2; exit 3")
        assert not isinstance(failed, Running)
        assert (failed.exit_code, failed.stdout, failed.stderr) == (3, "out\n", "err\n")
        running = sandbox.run(f"{sys.executable} -m paddock serve --agent echo --port 18931")
        assert isinstance(running, Running)
        url = sandbox.get_url(18931)
        assert url.startswith("ws://127.0.0.1:")
        assert "token=" in url
        assert text_of(asyncio.run(ask(url, "ECHO:x"))) == "x"
        running.stop()
        with pytest.raises(FileNotFoundError):
            sandbox.fs.read_text("missing")
    with pytest.raises(ConfigError, match="give a recipe or a name"):
        Sandbox.create(backend=5)  # type: ignore[arg-type]


@pytest.mark.rows("U-9", "U-18")
@pytest.mark.usefixtures("podman")
async def test_a_sandbox_in_podman_serves() -> None:
    async with (
        PodmanBackend(network="none").sandbox() as sandbox,
        serve(sandbox, agent="echo") as client,
    ):
        assert text_of(await client.query("ECHO:there", options())) == "there"


@pytest.mark.rows("U-9", "U-18")
@pytest.mark.parametrize("isolation", ["none", "bubblewrap"])
async def test_a_sandbox_on_a_host_serves(isolation: Any, ssh_config: Path) -> None:
    recipe = SshBackend(host="there", config=str(ssh_config), isolation=isolation)
    async with recipe.sandbox() as sandbox, serve(sandbox, agent="echo") as client:
        assert text_of(await client.query("ECHO:there", options())) == "there"


@pytest.mark.rows("U-9", "U-30")
async def test_a_daytona_sandbox_serves(daytona: Daytona) -> None:
    """Over its signed address, which takes no header."""
    async with daytona.recipe.sandbox() as sandbox, serve(sandbox, agent="echo") as client:
        assert text_of(await client.query("ECHO:there", options())) == "there"
