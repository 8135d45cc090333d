"""How `paddock doctor` finds an engine: as the backend does, whatever is wrong with the way."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock.backends.docker import DockerBackend
from paddock.backends.docker.backend import EngineFound
from paddock.backends.docker.engine.endpoint import Endpoint
from paddock.backends.guest.inside import landlock
from paddock.backends.local.sandbox import LocalSandbox
from paddock.cli import doctor, main
from paddock.errors import FenceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Require

CONTEXT = "elsewhere"
META = f"contexts/meta/{hashlib.sha256(CONTEXT.encode()).hexdigest()}/meta.json"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The docker CLI's configuration, where nothing is set."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


@pytest.fixture
def finding(capfd: pytest.CaptureFixture[str]) -> Callable[[], dict[str, str]]:
    """What `paddock doctor --json` says about Docker."""

    def examine() -> dict[str, str]:
        assert main(["doctor", "--json"]) == 0
        found: list[dict[str, str]] = json.loads(capfd.readouterr().out)
        return next(each for each in found if each["name"] == "Docker")

    return examine


def write_context(config: Path, address: str) -> None:
    (config / META).parent.mkdir(parents=True)
    endpoint = {"Host": address, "SkipTLSVerify": False}
    context = {"Name": CONTEXT, "Metadata": {}, "Endpoints": {"docker": endpoint}}
    (config / META).write_text(json.dumps(context))


@pytest.mark.docker
@pytest.mark.parametrize("by", ["configuration", "environment"])
@pytest.mark.usefixtures("base_image")
def test_the_engine_of_the_docker_context_is_found(
    by: str, finding: Callable[[], dict[str, str]], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Path(Endpoint.find().url.removeprefix("unix://"))
    socket_of_ours = config / "engine.sock"
    socket_of_ours.symlink_to(there)
    write_context(config, f"unix://{socket_of_ours}")
    if by == "environment":
        monkeypatch.setenv("DOCKER_CONTEXT", CONTEXT)
    else:
        (config / "config.json").write_text(json.dumps({"currentContext": CONTEXT}))
    found = finding()
    assert found["status"] == "ok"
    assert found["detail"].endswith(f"at unix://{socket_of_ours}")


def test_a_context_that_does_not_exist_is_told(
    finding: Callable[[], dict[str, str]], config: Path
) -> None:
    (config / "config.json").write_text(json.dumps({"currentContext": CONTEXT}))
    found = finding()
    assert found["status"] == "missing"
    assert "context" in found["detail"]
    assert "does not exist" in found["detail"]


def test_a_context_that_is_damaged_is_told(
    finding: Callable[[], dict[str, str]], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_context(config, "")
    (config / META).write_text("{")
    monkeypatch.setenv("DOCKER_CONTEXT", CONTEXT)
    found = finding()
    assert found["status"] == "missing"
    assert "cannot be read" in found["detail"]


def test_an_engine_that_hangs_costs_little_time(
    finding: Callable[[], dict[str, str]], config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ENGINE_TIMEOUT", 0.2)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(os.fspath(config / "engine.sock"))
        silent.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{config}/engine.sock")
        found = finding()
    assert found["status"] == "missing"
    assert "did not answer within 0.2 s" in found["detail"]
    assert found["advice"]


def fences() -> dict[str, doctor.Finding]:
    """What is found about the fences of commands, by backend."""
    prefix = f"{doctor.FENCE}, "
    found = {finding.name: finding for finding in doctor.examine()}
    return {name.removeprefix(prefix): each for name, each in found.items() if prefix in name}


def test_whether_a_command_can_be_fenced_is_told_of_each_backend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def engine(backend: DockerBackend, *, deadline: float) -> EngineFound:
        return EngineFound(version="1", kernel=kernel, url="unix:///x")

    async def refuse(*args: object, **options: object) -> None:
        raise FenceUnavailable("Landlock is not available")

    monkeypatch.setattr(DockerBackend, "engine_found", engine)
    kernel = "6.1.0-28-amd64"
    found = fences()
    assert list(found) == ["local", "Docker", "Daytona"]
    assert "6.1.0-28-amd64" in found["Docker"].detail
    assert {found[name].status for name in ("Docker", "Daytona")} == {"ok"}
    kernel = "5.4.0"
    monkeypatch.setattr(LocalSandbox, "exec", refuse)
    found = fences()
    for name, reason in (("local", "Landlock is not available"), ("Docker", "5.4.0")):
        assert found[name].status == "partly"
        assert reason in found[name].detail
        assert "allow-list" in found[name].advice


def test_a_command_is_tried_in_a_fence(require: Require) -> None:
    require("landlock", landlock.abi() > 0, "the kernel has no Landlock")
    assert fences()["local"].status == "ok"


def found(name: str) -> doctor.Finding:
    return next(each for each in doctor.examine() if each.name == name)


def test_podman_is_found_where_it_works(
    podman: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert found("Podman").status == "ok"
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = found("Podman")
    assert (missing.status, "not installed" in missing.detail) == ("missing", True)
    (tmp_path / "podman").write_text("#!/bin/sh\necho no storage >&2\nexit 125\n")
    (tmp_path / "podman").chmod(0o755)
    broken = found("Podman")
    assert (broken.status, broken.detail) == ("missing", "no storage")
    (tmp_path / "podman").write_text("#!/bin/sh\necho begun >&2\nexec /bin/sleep 1000\n")
    monkeypatch.setattr(doctor, "PROGRAM_TIMEOUT", 0.2)
    assert "timed out after 0.2 s" in found("Podman").detail


def test_the_host_of_ssh_is_asked(ssh_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PADDOCK_SSH_HOST", raising=False)
    assert "not tried" in found("SSH").detail
    monkeypatch.setenv("PADDOCK_SSH_CONFIG", str(ssh_config))
    monkeypatch.setenv("PADDOCK_SSH_HOST", "there")
    assert found("SSH").status == "ok"
    for host in ("-oProxyCommand=x", "elsewhere.invalid"):
        monkeypatch.setenv("PADDOCK_SSH_HOST", host)
        missing = found("SSH")
        assert missing.status == "missing"
        assert host in missing.detail
