"""Backend recipes in an agent's file: written whole, read back equal, and never with a key."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.backends.daytona import DaytonaBackend
from paddock.backends.docker import DockerBackend
from paddock.backends.local import LocalBackend
from paddock.errors import ConfigError
from paddock.image import Image
from paddock.network import Allow
from paddock.runtime.agents.config import AgentConfig
from paddock.sandbox import Resources

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.backends.base import Backend

IMAGE = (
    Image.debian_slim("3.12")
    .apt_install("git", "jq")
    .pip_install("httpx>=0.27")
    .pip_install("numpy", index_url="https://example.org/simple", extra_index_urls=["https://b.c"])
    .pip_install_from_requirements("requirements.txt", pre=True)
    .pip_install_from_pyproject("pyproject.toml", extras=["dev"], groups=["test"])
    .uv_sync("project")
    .run_commands("echo 'no'", "true\nfalse")
    .env({"NO": "1e3", "variables": "x"})
    .workdir("/w")
    .add_local_file("a.txt", "/w/")
    .add_local_dir("src", "/w/src", ignore=["*.pyc"])
    .user("1000:1000")
)
COMMON: dict[str, Any] = {
    "env_vars": {"PORT": "8080", "OFF": "no"},
    "uploads": [("here", "/there"), ("a", "b")],
    "upload_ignore": ["*.log", "!keep.log"],
    "upload_gitignore": True,
    "upload_links": "skip",
    "setup": ["make -j2", "off"],
    "setup_timeout": None,
    "working_dir": "/work",
    "labels": {"team": "blue"},
    "lifetime": 3600.0,
    "idle_timeout": 60.0,
}
RECIPES = [
    LocalBackend(),
    LocalBackend(
        **COMMON,
        isolation="bubblewrap",
        network=Allow(hosts=["pypi.org", "10.0.0.5:5432"]),
        resources=Resources(cpu=1.5, memory=2**30, pids=64, disk=2**31),
        dirs=["/data", "/opt/cache"],
    ),
    DockerBackend(image=IMAGE, network=Allow(hosts=[])),
    DockerBackend(
        **COMMON, image="python:3.12", resources=Resources(memory=2**30), network="none",
        user="1000", runtime="runsc", hardening="strict", host="ssh://me@there", lease=None,
    ),
    DockerBackend(
        image=Image.from_dockerfile(
            "Dockerfile", context=".", target="app", build_args={"A": "1"}, platform="linux/amd64"
        ).run_commands("true"),
        gpus="device=0", platform="linux/amd64", volumes=[("cache", "/cache", "ro")],
        extra_hosts={"db": "10.0.0.5"}, sysctls={"net.core.somaxconn": "512"},
        engine_options={"CpusetCpus": "0", "Ulimits": [{"Name": "nofile", "Soft": 64}]},
    ),
    DaytonaBackend(
        **COMMON, image=Image.from_registry("python:3.12"), resources=Resources(cpu=2),
        auto_stop_interval=5, lease=60.5, network=Allow(hosts=["pypi.org"]), ephemeral=True,
        target="eu", user="daytona", volumes=[("v1", "/data")], uv_version="0.10.0",
        create_timeout=10.0,
    ),
    DaytonaBackend(snapshot="mine"),
]  # fmt: skip


def written(backend: Backend) -> bytes:
    return AgentConfig(backend=backend).to_yaml()


@pytest.mark.rows("S-5")
@pytest.mark.parametrize("backend", RECIPES)
def test_a_recipe_is_read_back_as_it_was_written(backend: Backend, tmp_path: Path) -> None:
    AgentConfig(backend=backend).to_file(tmp_path / "a.yaml")
    again = AgentConfig.from_file(tmp_path / "a.yaml").backend
    assert again == backend
    assert type(again) is type(backend)


def test_every_field_of_every_backend_is_in_one_of_these_recipes() -> None:
    for kind in (LocalBackend, DockerBackend, DaytonaBackend):
        mine = [each for each in RECIPES if type(each) is kind]
        for field in dataclasses.fields(kind):
            values = [getattr(each, field.name) for each in mine]
            if field.repr:
                assert any(value != getattr(kind(), field.name) for value in values), field.name


@pytest.mark.rows("S-5")
def test_a_recipe_reads_as_a_person_would_write_it() -> None:
    backend = DockerBackend(
        image=Image.from_registry("python:3.12").apt_install("git"),
        env_vars={"PORT": "8080"},
        network=Allow(hosts=["pypi.org"]),
    )
    assert written(backend).decode().partition("backend:")[2] == (
        "\n  type: docker\n  env_vars:\n    PORT: '8080'\n"
        "  image:\n  - from_registry: python:3.12\n  - apt_install:\n    - git\n"
        "  network:\n    allow:\n    - pypi.org\nauto_approve: true\n"
    )


def test_what_is_text_need_not_be_quoted(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "backend: {type: daytona, env_vars: {PORT: 8080, DEBUG: yes}, uv_version: 0.10}\n"
    )
    assert AgentConfig.from_file(tmp_path / "a.yaml").backend == DaytonaBackend(
        env_vars={"PORT": "8080", "DEBUG": "yes"}, uv_version="0.10"
    )


@pytest.mark.rows("S-5")
def test_keys_of_an_account_are_not_written_and_all_else_of_it_is(tmp_path: Path) -> None:
    daytona = pytest.importorskip("daytona")
    account = daytona.DaytonaConfig(
        api_key="dtn_secret", jwt_token="eyJsecret", api_url="https://app.daytona.io/api"
    )
    path = tmp_path / "a.yaml"
    AgentConfig(backend=DaytonaBackend(config=account, target="eu")).to_file(path)
    assert "secret" not in path.read_text()
    again = AgentConfig.from_file(path).backend
    assert again == DaytonaBackend(
        config=daytona.DaytonaConfig(api_url="https://app.daytona.io/api"), target="eu"
    )
    only_key = DaytonaBackend(config=daytona.DaytonaConfig(api_key="dtn_secret"))
    assert b"config" not in written(only_key)


def test_secrets_of_a_recipe_are_written_by_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(DockerBackend(image="python:3.12", secrets={"TOKEN": "tok_secret"}))
    assert b"tok_secret" not in data
    monkeypatch.setenv("TOKEN", "tok_secret")
    again = AgentConfig.from_yaml(data)
    assert again.backend == DockerBackend(image="python:3.12")
    assert again.secrets == {"TOKEN": "tok_secret"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnBackend(LocalBackend):
    """One that is not installed, and so has no name of its own."""


@pytest.mark.rows("S-5")
def test_what_a_file_cannot_say_is_told_by_its_field(tmp_path: Path) -> None:
    index = "https://me:word@example.org/simple"
    unsayable: list[tuple[Backend, str]] = [
        (OwnBackend(), "backend: OwnBackend is no installed backend"),
        (
            DockerBackend(image=Image.debian_slim().pip_install("x", index_url=index)),
            r"backend\.image\[2\]\.options\.index_url: an address with a password",
        ),
        (DockerBackend(setup=["\udcff"]), r"backend\.setup\[1\]: .*Unicode"),
    ]
    for backend, told in unsayable:
        with pytest.raises(ConfigError, match=told):
            AgentConfig(backend=backend).to_file(tmp_path / "none.yaml")
    assert not (tmp_path / "none.yaml").exists()


def test_a_native_image_cannot_be_said() -> None:
    daytona = pytest.importorskip("daytona")
    with pytest.raises(ConfigError, match=r"backend\.image: a daytona\.\S*Image cannot"):
        written(DaytonaBackend(image=daytona.Image.base("python:3.12")))


def test_a_partial_file_never_names_another_backend_in_place_of_one_it_cannot_say(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(AgentConfig(backend=OwnBackend(), model="m").to_yaml(partial=True))
    config = AgentConfig.from_file(path)
    assert config.model == "m"
    assert config.backend == "local (backend: OwnBackend is no installed backend, so has no name)"


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("{image: x}", "backend: say which"),
        ("{type: nowhere}", "no backend is called 'nowhere'"),
        ("{type: docker, imag: x}", r"backend\.imag: there is no such field; did you mean image"),
        ("{type: local, image: x}", r"backend\.image: there is no such field; there are"),
        ("{type: docker, image: 5}", r"backend\.image: Input should be a valid string"),
        ("{type: docker, lease: '5'}", r"backend\.lease: Input should be a valid number"),
        ("{type: docker, lease: true}", r"backend\.lease"),
        ("{type: docker, lease: -1}", "backend: lease=-1: give a number"),
        ("{type: docker, setup: make}", r"backend\.setup"),
        ("{type: docker, setup: [1]}", r"backend\.setup\[1\]: Input should be a valid string"),
        ("{type: docker, uploads: [[a, b], [a]]}", r"backend\.uploads\[2\]\[2\]: Field required"),
        ("{type: docker, env_vars: {A: [1]}}", r"backend\.env_vars\.A: Input should be a valid"),
        ("{type: docker, hardening: soft}", "hardening='soft'"),
        ("{type: docker, network: {deny: [a]}}", r"backend\.network: give a word, or allow"),
        ("{type: docker, network: {allow: a}}", r"backend\.network: give a word, or allow"),
        ("{type: docker, network: {allow: ['http://a']}}", "network: 'http://a'"),
        ("{type: docker, resources: 4}", r"backend\.resources"),
        ("{type: docker, resources: {memory: 4GiB}}", r"backend\.resources\.memory"),
        ("{type: docker, resources: {pids: 0}}", r"backend\.resources: resources: pids=0: give"),
        ("{type: docker, resources: {ram: 4}}", r"backend\.resources\.ram: there is no such"),
        ("{type: docker, image: {a: b}}", r"backend\.image: give a reference"),
        ("{type: docker, image: []}", "an image begins"),
        ("{type: docker, image: [git]}", r"backend\.image\[1\]: give a mapping"),
        ("{type: docker, image: [{a: 1, b: 2}]}", r"image\[1\]: a step is one verb"),
        ("{type: docker, image: [{apt_instal: [git]}]}", "did you mean apt_install"),
        (
            "{type: docker, image: [{from_registry: a}, {apt_install: git}]}",
            r"image\[2\]\.apt_install\.packages",
        ),
        ("{type: docker, image: [{from_dockerfile: a}]}", "context"),
        ("{type: docker, image: [{workdir: {path: /a, mode: 1}}]}", "there is no mode"),
        ("{type: docker, image: [{pip_install: {packages: [a], pree: 1}}]}", "mean pre"),
        ("{type: daytona, config: {api_key: x}}", r"config\.api_key: a key is not kept in a file"),
        ("{type: daytona, config: {api_urll: x}}", "did you mean api_url"),
        ("{type: daytona, config: {api_url: [x]}}", r"backend\.config\.api_url"),
        ("{type: daytona, config: eu}", r"backend\.config: give a mapping"),
        ("{type: docker, secrets: {TOKEN: x}}", r"backend\.secrets: what is secret is not kept"),
        ("{type: daytona, auto_stop_interval: 1.5}", r"backend\.auto_stop_interval"),
    ],
)
def test_a_recipe_that_is_none_is_told(tmp_path: Path, recipe: str, told: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"backend: {recipe}\n")
    with pytest.raises(ConfigError, match=told):
        AgentConfig.from_file(path)


LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
PAIRS = st.dictionaries(LINE.filter(lambda name: "=" not in name), LINE, max_size=3)
SECONDS = st.none() | st.floats(min_value=1, max_value=1e9) | st.integers(1, 10**9)
COMMONS = st.fixed_dictionaries(
    {},
    optional={
        "env_vars": PAIRS,
        "labels": PAIRS,
        "setup": st.lists(LINE, max_size=3),
        "uploads": st.lists(st.tuples(LINE, LINE), max_size=2),
        "setup_timeout": SECONDS,
        "working_dir": LINE.map("/".__add__),
        "resources": st.builds(
            Resources,
            cpu=st.none() | st.floats(1, 64),
            memory=st.none() | st.integers(2**30, 2**50),
        ),
        "network": st.sampled_from(["full", "none", Allow(hosts=["a.org:80"])]),
    },
)


@pytest.mark.rows("S-5")
@settings(max_examples=40)
@given(kind=st.sampled_from([LocalBackend, DockerBackend, DaytonaBackend]), common=COMMONS)
def test_any_recipe_is_read_back_as_it_was_written(
    kind: type[Backend], common: dict[str, Any]
) -> None:
    # `to_yaml` compares what it reads back; here the comparison is the recipes' own.
    backend = kind(**common)
    assert AgentConfig.from_yaml(written(backend)).backend == backend
