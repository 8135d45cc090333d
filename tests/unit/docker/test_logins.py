"""Logins at registries: where they are looked for, and who is asked."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddock.backends.docker.images import logins as module
from paddock.backends.docker.images.logins import find_logins, registry_of
from paddock.errors import ConfigError
from paddock.image.settings import BuildSettings, RegistryLogin

Asked = Callable[[], list[str]]

HELPER = """#!/bin/sh
read -r server
echo "$server" >> {log}
case $server in
ecr.example) printf '{{"ServerURL":"x","Username":"AWS","Secret":"ecr-secret"}}' ;;
gcr.example) printf '{{"Username":"<token>","Secret":"gcr-token"}}' ;;
odd.example) echo 'no JSON' ;;
slow.example) exec sleep 600 ;;
child.example) echo $$ > {log}; sleep 600; true ;;
flood.example) yes 'much' ;;
null.example) echo '{{"Username":null,"Secret":""}}' ;;
half.example) printf '{{"Username":"\\ud800","Secret":"x"}}' ;;
broken.example) echo 'the keychain is locked'; exit 3 ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """A credential helper called ``docker-credential-ours``; returns what it was asked."""
    log = tmp_path / "asked"
    log.touch()
    helper = tmp_path / "docker-credential-ours"
    helper.write_text(HELPER.format(log=log))
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return lambda: log.read_text().split()


def configure(folder: Path, **config: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config))


def basic(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("debian", "docker.io"),
        ("team/image:1", "docker.io"),
        ("index.docker.io/team/image", "docker.io"),
        ("localhost/x", "localhost"),
        ("127.0.0.1:5000/team/image:1", "127.0.0.1:5000"),
        ("1.dkr.ecr.eu-west-1.amazonaws.com/x@sha256:0", "1.dkr.ecr.eu-west-1.amazonaws.com"),
    ],
)
def test_an_image_is_pulled_from_the_registry_in_its_name(image: str, registry: str) -> None:
    assert registry_of(image) == registry


async def test_only_the_helpers_of_registries_that_are_named_are_asked(
    asked: Asked, tmp_path: Path
) -> None:
    helpers = dict.fromkeys(("ecr.example", "gcr.example", "broken.example"), "ours")
    configure(tmp_path, credHelpers=helpers, auths={"b.example": basic("me", "pass")})
    found = await find_logins(["ecr.example/a:1", "ecr.example/b", "b.example/c", "debian"], {})
    assert asked() == ["ecr.example"]
    assert found.of("ecr.example") == {"username": "AWS", "password": "ecr-secret"}
    assert found.of("b.example") == {"username": "me", "password": "pass"}
    assert found.of("docker.io") == found.of("gcr.example") == {}
    known = json.loads(base64.urlsafe_b64decode(found.build_headers()["X-Registry-Config"]))
    assert sorted(known) == ["b.example", "ecr.example"]


async def test_a_token_of_a_helper_is_an_identity_token(asked: Asked, tmp_path: Path) -> None:
    configure(tmp_path, credsStore="ours")
    found = await find_logins(["gcr.example/a"], {})
    assert found.of("gcr.example") == {"identitytoken": "gcr-token"}
    assert found.config()["gcr.example"]["identitytoken"] == "gcr-token"


@pytest.mark.parametrize(
    ("registry", "helper", "reason"),
    [
        ("broken.example", "ours", "exit code 3: the keychain is locked"),
        ("odd.example", "ours", "its answer is not a login"),
        ("slow.example", "ours", "did not answer within"),
        ("flood.example", "ours", "it printed more than 1048576 bytes"),
        ("null.example", "ours", "its answer is not a login"),
        ("half.example", "ours", "its answer is not a login"),
        ("ecr.example", "missing", "not on PATH"),
        ("ecr.example", "../ours", "not on PATH"),
    ],
)
async def test_a_helper_that_fails_is_a_warning_and_no_login(
    asked: Asked,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    registry: str,
    helper: str,
    reason: str,
) -> None:
    if registry == "slow.example":
        monkeypatch.setattr(module, "HELPER_TIMEOUT", 0.5)
    configure(tmp_path, credHelpers={registry: helper})
    with caplog.at_level(logging.WARNING):
        found = await find_logins([f"{registry}/a"], {})
    assert found.of(registry) == {}
    assert f"no login for {registry}: docker-credential-{helper}: " in caplog.text
    assert reason in caplog.text
    assert "secret" not in caplog.text


async def test_a_helper_that_hangs_is_killed_with_its_children(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELPER_TIMEOUT", 0.5)
    configure(tmp_path, credHelpers={"child.example": "ours"})
    async with asyncio.timeout(60):
        found = await find_logins([f"child.example/{name}" for name in "ab"], {})
    assert found.of("child.example") == {}
    (group,) = map(int, asked())
    async with asyncio.timeout(60):
        while _lives(group):  # noqa: ASYNC110 - the kernel ends them
            await asyncio.sleep(0.01)


def _lives(group: int) -> bool:
    """Whether a process of that group runs; zombies of others do not."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                return True
    return False


@pytest.mark.parametrize(
    "config",
    [{"credHelpers": ["ours"]}, {"auths": ["a.example"]}],
    ids=lambda each: next(iter(each)),
)
async def test_a_configuration_that_is_no_object_is_a_config_error(
    asked: Asked, tmp_path: Path, config: dict[str, Any]
) -> None:
    configure(tmp_path, **config)
    with pytest.raises(ConfigError, match=f"{next(iter(config))!r} is not an object"):
        await find_logins(["a.example/x"], {})


async def test_a_login_in_the_file_that_is_no_text_is_none(asked: Asked, tmp_path: Path) -> None:
    configure(tmp_path, auths={"a.example": {"auth": 5}, "b.example": {"auth": "!"}})
    found = await find_logins(["a.example/x", "b.example/x"], {})
    assert found.config() == {}


async def test_a_store_without_a_login_leaves_it_to_the_file_and_docker_s_own_names_are_one(
    asked: Asked, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configure(
        tmp_path, credsStore="ours", auths={"https://index.docker.io/v1/": basic("hub", "pass:w")}
    )
    found = await find_logins(["debian"], {})
    assert asked() == ["https://index.docker.io/v1/"]
    assert found.of("docker.io") == {"username": "hub", "password": "pass:w"}
    assert list(found.config()) == ["https://index.docker.io/v1/"]
    assert not caplog.records


async def test_a_login_that_is_given_takes_precedence_and_nobody_is_asked(
    asked: Asked, tmp_path: Path
) -> None:
    configure(tmp_path, credsStore="ours", auths={"b.example": basic("me", "pass")})
    given = {"https://b.example/v2/": RegistryLogin(username="you", password="hidden")}
    found = await find_logins(["b.example/x"], given)
    assert found.of("b.example") == {"username": "you", "password": "hidden"}
    assert asked() == []
    assert str(found) == "the registry b.example was asked as 'you' (auth=)"


async def test_errors_say_who_was_logged_in_where(asked: Asked, tmp_path: Path) -> None:
    configure(tmp_path, credHelpers={"gcr.example": "ours", "ecr.example": "ours"})
    said = str(await find_logins(["gcr.example/a", "ecr.example/a", "debian"], {}))
    assert said == (
        "the registry docker.io was asked without a login (`docker login`, or auth=); "
        "the registry ecr.example was asked as 'AWS' (docker-credential-ours); "
        "the registry gcr.example was asked with a token (docker-credential-ours)"
    )


def test_a_login_is_one_thing_and_its_repr_hides_it() -> None:
    login = RegistryLogin(username="me", password="hidden-1")
    settings = BuildSettings(auth={"a.example": login})
    assert "hidden" not in repr(login) + repr(RegistryLogin(token="hidden-2")) + repr(settings)
    for wrong in ({}, {"username": "me"}, {"username": "a", "password": "b", "token": "c"}):
        with pytest.raises(ConfigError, match="a username with a password, or a token"):
            RegistryLogin(**wrong)
