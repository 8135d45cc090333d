"""The LiteLLM proxy, a gateway that nobody here wrote, in front of the scripted server.

It runs from an environment of its own (`tools/venv-litellm` makes it), whose program
``PADDOCK_LITELLM`` names.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from paddock.testing.model_server import ModelServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

    from paddock.runtime.models.scripted import Script
    from paddock.testing.model_server import Fault

__all__ = ["MOCKED", "MOCK_TEXT", "LiteLLM", "running"]

PROGRAM = Path(os.environ.get("PADDOCK_LITELLM", ".litellm/bin/litellm"))
START = 300.0
"""Seconds until it answers: 6 on a quiet machine, most of them imports."""
END = 30.0
"""Seconds for it to end at SIGTERM."""

MOCKED = "mocked"
MOCK_TEXT = "The gateway made this up."
"""The proxy's own answer to the model `MOCKED`, for which it asks no service."""


@dataclass(frozen=True, kw_only=True)
class LiteLLM:
    """A proxy that runs. What `upstream` makes serves its models ``chat`` and ``responses`` by
    OpenAI's protocols, and ``claude`` by Anthropic's."""

    base_url: str
    api_key: str
    port_behind: int
    key_behind: str

    def upstream(self, script: Script, faults: Sequence[Fault | None] = ()) -> ModelServer:
        """A scripted server where the proxy asks; one at a time."""
        return ModelServer(script, faults=faults, port=self.port_behind, api_key=self.key_behind)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[LiteLLM]:
    """A proxy that keeps its files in `folder`, and has ended at the end of the block."""
    port, behind = _free_ports()
    proxy = LiteLLM(
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key=f"sk-{secrets.token_hex(8)}",
        port_behind=behind,
        key_behind=secrets.token_hex(8),
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(_configuration(proxy)))
    command = [str(PROGRAM.resolve()), "--config", "config.yaml", "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    log = _Log(process.stdout)
    log.start()
    try:
        assert log.serving.wait(START), "".join(log.lines[-40:])
        assert process.poll() is None, "".join(log.lines[-40:])
        yield proxy
    finally:
        process.terminate()
        try:
            process.wait(END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.join()
        process.stdout.close()


class _Log(threading.Thread):
    """Reads what the proxy says; `serving` is set when it takes requests, or has ended."""

    def __init__(self, output: IO[str]) -> None:
        super().__init__(daemon=True)
        self.lines: list[str] = []
        self.serving = threading.Event()
        self._output = output

    def run(self) -> None:
        for line in self._output:
            self.lines.append(line)
            if "Uvicorn running on" in line:
                self.serving.set()
        self.serving.set()


def _configuration(proxy: LiteLLM) -> dict[str, object]:
    behind = f"http://127.0.0.1:{proxy.port_behind}"
    openai = {
        "model": "openai/scripted",
        "api_base": f"{behind}/v1",
        "api_key": proxy.key_behind,
        "input_cost_per_token": 0.01,
        "output_cost_per_token": 0.1,
    }
    served = {
        MOCKED: {"model": "openai/gpt-4o-mini", "api_key": "none", "mock_response": MOCK_TEXT},
        "chat": openai,
        "responses": openai,
        "claude": {
            "model": "anthropic/claude-sonnet-4-5",
            "api_base": behind,
            "api_key": proxy.key_behind,
        },
    }
    return {
        "model_list": [
            {"model_name": name, "litellm_params": params} for name, params in served.items()
        ],
        "litellm_settings": {"telemetry": False, "num_retries": 0, "request_timeout": 60},
        "router_settings": {"num_retries": 0, "disable_cooldowns": True},
        "general_settings": {"master_key": proxy.api_key},
    }


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of this machine's accounts, and no list of prices from the network."""
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def _free_ports() -> list[int]:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        return [one.getsockname()[1], other.getsockname()[1]]


def is_installed() -> bool:
    """Whether there is a proxy to run."""
    return shutil.which(PROGRAM.resolve()) is not None
