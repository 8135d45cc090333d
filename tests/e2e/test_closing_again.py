"""A sandbox whose removal failed is closed, and removed when `aclose()` is called again."""

from __future__ import annotations

import secrets
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends import lease
from paddock.backends.docker import DockerBackend
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.local import LocalBackend
from paddock.errors import SandboxClosed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from paddock.backends.docker.engine.client import Engine


@pytest.fixture(autouse=True)
def _own_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def failing_once(function: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    errors = [error]

    def call(*args: Any, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return function(*args, **options)

    return call


def refusal(status: int, reason: str) -> Exception:
    import docker
    import requests

    answer = requests.Response()
    answer.status_code = status
    return docker.errors.APIError(reason, response=answer)


async def test_a_local_sandbox_whose_directory_could_not_be_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = LocalBackend(isolation="none")
    sandbox = await recipe.create()
    error = OSError("too many open files")
    monkeypatch.setattr(lease, "remove_tree", failing_once(lease.remove_tree, error))
    with pytest.raises(OSError, match="too many open files"):
        await sandbox.aclose()
    with pytest.raises(SandboxClosed):
        await sandbox.exec("true")
    assert [info.id for info in await recipe.list()] == [sandbox.id]
    await sandbox.aclose()
    assert await recipe.list() == []
    await sandbox.aclose()


@pytest.mark.docker
async def test_a_container_that_the_engine_could_not_remove(
    docker_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import docker

    recipe = DockerBackend(network="none", labels={"test": secrets.token_hex(6)})
    sandbox = await recipe.create()
    removing = failing_once(docker.APIClient.remove_container, refusal(500, "the disk is full"))
    monkeypatch.setattr(docker.APIClient, "remove_container", removing)
    with pytest.raises(EngineError, match="removing"):
        await sandbox.aclose()
    with pytest.raises(SandboxClosed):
        await sandbox.exec("true")
    assert sandbox.id in [info.id for info in await recipe.list(recipe.labels)]
    await sandbox.aclose()
    assert await recipe.list(recipe.labels) == []
    await sandbox.aclose()


@pytest.mark.docker
async def test_a_container_whose_other_removal_fails_is_removed_all_the_same(
    docker_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import docker

    recipe = DockerBackend(network="none", labels={"test": secrets.token_hex(6)})
    sandbox = await recipe.create()
    conflict = refusal(409, "removal of the container is already in progress")
    removing = failing_once(docker.APIClient.remove_container, conflict)
    monkeypatch.setattr(docker.APIClient, "remove_container", removing)
    failed = {"StatusCode": 0, "Error": {"Message": "the other removal failed"}}
    monkeypatch.setattr(docker.APIClient, "wait", lambda *_, **__: failed)
    await sandbox.aclose()
    assert await recipe.list(recipe.labels) == []
