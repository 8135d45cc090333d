"""Private images are pulled and built on with the logins that the docker CLI would use."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from paddock.backends.docker import DockerBackend
from paddock.backends.docker.engine.client import EngineError
from paddock.errors import BuildFailed, SandboxError
from paddock.image import Image
from paddock.image.settings import RegistryLogin
from tests.e2e.registry_served import PASSWORD, TOKEN, USER, Registry, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from paddock.backends.docker.engine.client import Engine
    from tests.conftest import Require
    from tests.e2e.image_bench import Bench

pytestmark = pytest.mark.docker


@pytest.fixture
async def registry(engine: Engine, tmp_path: Path, require: Require) -> AsyncIterator[Registry]:
    require("docker-registry", shutil.which("docker-registry"), "it is not installed")
    require("docker", engine.endpoint.url.startswith("unix://"), "the engine is elsewhere")
    folder = tmp_path / "registry"
    folder.mkdir()
    async with serving(folder) as registry:
        yield registry


@pytest.fixture
async def private(engine: Engine, registry: Registry) -> AsyncIterator[str]:
    """An image that the registry has and the engine has not, any more."""
    name = f"{registry.host}/team/image"
    await asyncio.to_thread(_push, engine.client, name)
    registry.asked.clear()
    yield f"{name}:1"
    await asyncio.to_thread(_remove, engine.client, f"{name}:1")


def _push(client: Any, name: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as root:
        info = tarfile.TarInfo("marker")
        info.size = len(name)
        root.addfile(info, io.BytesIO(name.encode()))
    client.import_image_from_data(archive.getvalue(), repository=name, tag="1")
    login = {"username": USER, "password": PASSWORD}
    said = client.push(name, tag="1", auth_config=login)
    assert "error" not in said, said
    client.remove_image(f"{name}:1")


def _remove(client: Any, name: str) -> None:
    if client.images(name):
        client.remove_image(name)


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write the docker CLI's config.json, and a helper beside it that may be on PATH."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def write(*, helper: str = "", **config: Any) -> None:
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "docker-credential-test").write_text(f"#!/bin/sh\n{helper}\n")
        (tmp_path / "docker-credential-test").chmod(0o755)

    return write


def auth_of(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


async def test_a_private_image_is_pulled_with_each_kind_of_login(
    private: str, registry: Registry, configure: Callable[..., None], engine: Engine
) -> None:
    answer = f'printf \'{{"Username": "{USER}", "Secret": "{PASSWORD}"}}\''
    token = f'printf \'{{"Username": "<token>", "Secret": "{TOKEN}"}}\''
    ways: list[tuple[dict[str, Any], RegistryLogin | None]] = [
        ({"auths": {registry.host: auth_of(USER, PASSWORD)}}, None),
        ({"credHelpers": {registry.host: "test"}, "helper": answer}, None),
        ({"credsStore": "test", "helper": token}, None),
        ({}, RegistryLogin(username=USER, password=PASSWORD)),
        ({"auths": {registry.host: auth_of(USER, "wrong")}}, RegistryLogin(token=TOKEN)),
    ]
    for config, login in ways:
        configure(**config)
        backend = DockerBackend(auth={registry.host: login} if login else {})
        assert await backend.images.ensure(private) == private
        await asyncio.to_thread(engine.client.remove_image, private)
    assert set(registry.asked) == {USER, "refresh_token"}


async def test_a_pull_that_is_refused_says_which_registry_and_who(
    private: str, registry: Registry, configure: Callable[..., None]
) -> None:
    configure()
    nobody = f"the registry {registry.host} was asked without a login"
    with pytest.raises(EngineError, match=nobody):
        await DockerBackend().images.ensure(private)
    configure(auths={registry.host: auth_of(USER, "wrong-password")})
    somebody = rf"the registry {registry.host} was asked as 'bob' \(config.json\)"
    with pytest.raises(EngineError, match=somebody) as caught:
        await DockerBackend().images.ensure(private)
    assert "wrong-password" not in str(caught.value)


@pytest.mark.parametrize("cli", [True, False], ids=["BuildKit", "classic"])
async def test_a_dockerfile_begins_with_a_private_image(
    bench: Bench, private: str, registry: Registry, configure: Callable[..., None],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, cli: bool,
) -> None:  # fmt: skip
    if not cli:
        monkeypatch.setenv("PATH", str(tmp_path))
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        f"ARG HOST\nFROM {bench.base}\nCOPY --from={private} /marker /marker\n"
    )
    configure(auths={registry.host: auth_of(USER, "wrong-password")})
    image = Image.from_dockerfile(context / "Dockerfile")
    with pytest.raises((BuildFailed, SandboxError)) as caught:
        await bench.ensure(image)
    assert f"the registry {registry.host} was asked as 'bob'" in str(caught.value)
    configure(auths={registry.host: auth_of(USER, PASSWORD), "other.test": auth_of("a", "b")})
    reference = await bench.ensure(image)
    assert await bench.run(reference, "cat", "/marker") == f"{registry.host}/team/image"
