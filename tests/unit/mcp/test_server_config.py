"""Which MCP servers an agent uses, as arguments and in files, and what needs trust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from paddock import AgentConfig, ConfigError, load_profile
from paddock.runtime.tools.mcp.config import McpServer

if TYPE_CHECKING:
    from pathlib import Path

FILE = """\
mcp_servers:
- name: docs
  command: [docs-server, --fast]
  env:
    DOCS_TOKEN: ${DOCS_TOKEN}
    LEVEL: debug
  tools: [search]
- name: web
  url: https://mcp.example.org/mcp
  headers:
    Authorization: Bearer ${WEB_TOKEN}
  approval: always
  call_timeout: 5
"""


def test_a_file_and_arguments_describe_servers_alike(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(FILE)
    config = AgentConfig.from_file(path)
    assert config.servers == (
        McpServer(
            name="docs",
            command=["docs-server", "--fast"],
            env={"DOCS_TOKEN": "${DOCS_TOKEN}", "LEVEL": "debug"},
            tools=["search"],
        ),
        McpServer(
            name="web",
            url="https://mcp.example.org/mcp",
            headers={"Authorization": "Bearer ${WEB_TOKEN}"},
            approval="always",
            call_timeout=5,
        ),
    )
    config.to_file(path)
    assert AgentConfig.from_file(path).servers == config.servers


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("x", "has to be a list"),
        ([3], "a server is a mapping"),
        ([{"command": ["x"]}], "needs a name"),
        ([{"name": "a", "comand": ["x"]}], "no field 'comand'"),
        ([{"name": "a"}], r"mcp_servers\.a: give either command or url"),
        ([{"name": "a", "command": ["x"], "url": "http://x"}], "either command or url"),
        ([{"name": "a", "command": "x y"}], r"a\.command: give a list"),
        ([{"name": "a", "command": []}], r"a\.command: give a program"),
        ([{"name": "a", "command": ["x"], "where": "moon"}], "'moon' is not sandbox or host"),
        ([{"name": "a__b", "command": ["x"]}], "name 'a__b'"),
        ([{"name": "a" * 31, "command": ["x"]}], "longer than 30"),
        ([{"name": "a", "url": "ftp://x"}], "http or https"),
        ([{"name": "a", "url": "https://u:p@x"}], "secret belongs in headers"),
        ([{"name": "a", "url": "http://x", "cwd": "/"}], r"a\.cwd: this server has no use"),
        ([{"name": "a", "command": ["x"], "headers": {"A": "b"}}], r"a\.headers: this server"),
        ([{"name": "a", "command": ["x"], "env": {"A": 3}}], "'A' has to be text"),
        ([{"name": "a", "command": ["x"], "env": {"A": "${A"}}], "only \\${NAME} is replaced"),
        ([{"name": "a", "command": ["x"], "call_timeout": 0}], r"a\.call_timeout: 0"),
        ([{"name": "a", "command": ["x"]}] * 2, "two servers have the name 'a'"),
    ],
)
def test_what_makes_no_sense_is_said(given: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        AgentConfig(mcp_servers=given)


def test_a_file_says_the_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("profile: readonly\nmcp_servers:\n- name: a\n")
    with pytest.raises(ConfigError, match=r"agent\.yaml, line 2: mcp_servers\.a: give either"):
        AgentConfig.from_file(path)


def test_a_header_with_a_secret_is_neither_shown_nor_written(tmp_path: Path) -> None:
    headers = {"Authorization": "Bearer secret-word", "X-Team": "${TEAM}"}
    config = AgentConfig(mcp_servers=[{"name": "a", "url": "https://x", "headers": headers}])
    assert "secret-word" not in repr(config)
    with pytest.raises(ConfigError, match=r"mcp_servers\.a\.headers\.Authorization: what is secre"):
        config.to_file(tmp_path / "agent.yaml")
    partial = config.to_yaml(partial=True)
    assert b"secret-word" not in partial
    assert b"${TEAM}" in partial


def test_a_variable_that_is_not_set_is_said() -> None:
    server = McpServer(name="a", command=["x"], env={"A": "x-${NOT_THERE}"})
    with pytest.raises(ConfigError, match="A: the environment variable NOT_THERE is not set"):
        server.resolve(server.env, {})
    assert server.resolve(server.env, {"NOT_THERE": "y"}) == {"A": "x-y"}


@pytest.mark.parametrize(
    ("server", "wished"),
    [
        ("command: [x]", None),
        ("command: [x]\n  env: {LEVEL: debug}", None),
        ("command: [rm, -rf, /]\n  where: host", "runs as you, outside of the sandbox"),
        ("url: http://169.254.169.254/", "this machine connects to"),
        ("command: [x]\n  env: {A: '${AWS_KEY}'}", "AWS_KEY"),
    ],
)
def test_a_file_of_a_project_may_have_servers_in_the_sandbox_only(
    server: str, wished: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(f"mcp_servers:\n- name: a\n  {server}\n")
    if wished is None:
        assert AgentConfig.from_file(path, trusted=False).servers
    else:
        with pytest.raises(ConfigError, match=wished):
            AgentConfig.from_file(path, trusted=False)


@pytest.mark.parametrize(
    ("profile", "gated"), [("readonly", True), ("developer", False), ("unrestricted", False)]
)
def test_a_profile_gates_tools_of_servers_by_its_mode(profile: str, gated: bool) -> None:
    assert load_profile(profile).requires_approval("docs__search", {"text": "x"}) is gated
