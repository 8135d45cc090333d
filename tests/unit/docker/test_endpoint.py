"""Where an engine is, by what the docker CLI keeps and the environment says."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from paddock import ConfigError
from paddock.backends.docker.engine.endpoint import Endpoint

if TYPE_CHECKING:
    from pathlib import Path

SOCKET = "unix:///var/run/docker.sock"
PLACE = hashlib.sha256(b"elsewhere").hexdigest()
TLS_FILES = ("ca.pem", "cert.pem", "key.pem")


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The docker CLI's configuration, where nothing is set."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def write_context(config: Path, told: object) -> None:
    meta = config / "contexts" / "meta" / PLACE / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps(told))


def write_files(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in TLS_FILES:
        (folder / name).touch()


@pytest.mark.parametrize("host", [None, ""])
@pytest.mark.parametrize("variable", ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH"])
def test_what_is_empty_is_not_set(
    host: str | None, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "")
    assert Endpoint.find(host) == Endpoint(SOCKET)


@pytest.mark.parametrize(
    "host",
    [
        *("tcp://127.0.0.1:99999", "tcp://127.0.0.1:abc", "tcp://127.0.0.1", "tcp://:2375"),
        *("tcp://[::1", "ssh://", "ssh://me@there:x", "unix://", "unix://x/y", "http://there:1"),
        *("/var/run/docker.sock", "there:2375", 5),
    ],
)
def test_an_address_that_cannot_be_is_named_with_where_it_stands(
    host: Any, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"host={host!r}: ") + ".*tcp://HOST:PORT"):
        Endpoint.find(host)
    write_context(config, {"Endpoints": {"docker": {"Host": host}}})
    monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
    with pytest.raises(ConfigError, match=r"docker context elsewhere: .*tcp://HOST:PORT"):
        Endpoint.find()
    monkeypatch.setenv("DOCKER_HOST", str(host))
    with pytest.raises(ConfigError, match=re.escape(f"DOCKER_HOST={str(host)!r}: ")):
        Endpoint.find()


@pytest.mark.parametrize(
    "host", ["unix:///a/b c", "tcp://there:2375", "tcp://[::1]:2375", "ssh://me@there:22"]
)
def test_an_address_goes_before_a_context(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "nowhere")
    assert Endpoint.find(host) == Endpoint(host)
    monkeypatch.setenv("DOCKER_HOST", host)
    assert Endpoint.find() == Endpoint(host)


def test_a_context_is_found_with_its_tls_files(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = {"Host": "tcp://there:2376", "SkipTLSVerify": False}
    write_context(config, {"Name": "elsewhere", "Endpoints": {"docker": docker}})
    monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
    assert Endpoint.find() == Endpoint("tcp://there:2376", verify=True)
    folder = config / "contexts" / "tls" / PLACE / "docker"
    write_files(folder)
    ca, cert, key = (str(folder / name) for name in TLS_FILES)
    found = Endpoint("tcp://there:2376", ca=ca, cert=(cert, key), verify=True)
    assert Endpoint.find() == found


@pytest.mark.parametrize("text", ["{", "[]", '{"currentContext": "gone"}'])
def test_another_engine_than_the_one_that_is_meant_is_not_taken(text: str, config: Path) -> None:
    (config / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config.json cannot be read|context gone does not"):
        Endpoint.find()


@pytest.mark.parametrize("told", [[], {}, {"Endpoints": {"docker": "there"}}])
def test_a_context_that_is_none_is_told(
    told: object, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_context(config, told)
    monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
    with pytest.raises(ConfigError, match=r"meta.json (is not a docker|cannot be read)"):
        Endpoint.find()


def test_certificates_that_are_not_there_are_named_with_their_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "certificates"
    monkeypatch.setenv("DOCKER_HOST", "tcp://there:2376")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(folder))
    with pytest.raises(ConfigError, match=r"no certificate .*ca\.pem; set DOCKER_CERT_PATH"):
        Endpoint.find()
    write_files(folder)
    ca, cert, key = (str(folder / name) for name in TLS_FILES)
    found = Endpoint("tcp://there:2376", ca=ca, cert=(cert, key), verify=True)
    assert Endpoint.find() == found
