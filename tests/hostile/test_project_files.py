"""A file that comes with a project cannot send keys away, read the environment or lower a fence."""

from __future__ import annotations

import contextlib
import http.server
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from paddock import AgentConfig, ConfigError
from paddock.cli.trusting import TrustStore

if TYPE_CHECKING:
    from collections.abc import Iterator

PADDOCK = [sys.executable, "-m", "paddock"]
DEADLINE = 120
SCRIPT = "- text: one\n- text: two\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cloned repository, the current directory; the user's home is beside it."""
    folder = tmp_path / "cloned"
    folder.mkdir()
    (folder / "model.yaml").write_text(SCRIPT)
    (tmp_path / "home").mkdir(mode=0o700)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-victim-abcdef123456")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-victims-key-1234567890")
    monkeypatch.chdir(folder)
    return folder


def paddock(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PADDOCK, *arguments],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=DEADLINE, check=False,
    )  # fmt: skip


def write(folder: Path, **keys: object) -> Path:
    path = folder / "agent.yaml"
    path.write_text(yaml.safe_dump({"model": "scripted:model.yaml", **keys}))
    return path


def local(**fields: object) -> dict[str, object]:
    return {"backend": {"type": "local", **fields}}


def docker(**fields: object) -> dict[str, object]:
    return {"backend": {"type": "docker", **fields}}


DENIED: list[tuple[str, dict[str, object]]] = [
    ("base_url", {"base_url": "http://127.0.0.1:9/v1"}),
    ("secrets", {"secrets": ["AWS_SECRET_ACCESS_KEY"]}),
    ("auto_approve", {"auto_approve": True}),
    ("working_dir", {"working_dir": "/"}),
    ("profile", {"profile": "unrestricted"}),
    ("profile", {"profile": {"profile": "own", "shell": "unrestricted"}}),
    ("system_prompt", {"system_prompt": "../other.md"}),
    ("model", {"model": "scripted:../elsewhere.yaml"}),
    ("databases", {"databases": {"a": {"type": "sqlite", "path": "/etc/x.db"}}}),
    ("backend.isolation", local(isolation="none")),
    ("backend.network", local(network="full")),
    ("backend.network", local(network={"allow": ["example.org"]})),
    ("backend.working_dir", local(working_dir="/")),
    ("backend.uploads", local(uploads=[["/etc", "etc"]])),
    ("backend.uploads", local(uploads=[["link", "out"]])),
    ("backend.host", docker(host="tcp://example.org:2375")),
    ("backend.runtime", docker(runtime="other")),
    (
        "backend.image",
        docker(
            image=[
                {"from_registry": "debian"},
                {"add_local_dir": {"local": "/etc", "remote": "/e"}},
            ]
        ),
    ),
]

ALLOWED: list[dict[str, object]] = [
    {},
    {"system_prompt": "You know trees.", "profile": "developer", "vars": {"a": "b"}},
    {"backend": "docker", "auto_approve": False, "unknown_key": 1},
    local(setup=["true"], env_vars={"A": "b"}, network="none", isolation="bubblewrap"),
    local(uploads=[[".", "here"]]),
    docker(image="debian:12", working_dir="/src", hardening="strict", network="none"),
]


@pytest.mark.parametrize(("key", "keys"), DENIED)
def test_an_untrusted_file_is_refused_for_each_key_that_reaches_beyond_its_sandbox(
    key: str, keys: dict[str, object], project: Path
) -> None:
    (project / "link").symlink_to("/etc")
    path = write(project, **keys)
    with pytest.raises(ConfigError, match=rf"(?m)^  {key}: "):
        AgentConfig.from_file(path, trusted=False)
    AgentConfig.from_file(path)


@pytest.mark.parametrize("keys", ALLOWED)
def test_a_file_that_stays_within_its_sandbox_needs_no_trust(
    keys: dict[str, object], project: Path
) -> None:
    AgentConfig.from_file(write(project, **keys), trusted=False)


@pytest.fixture
def author() -> Iterator[tuple[str, list[str]]]:
    """A server of the repository's author: its address, and the keys that it was sent."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(str(self.headers.get("authorization")))
            self.send_response(401)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
        server.shutdown()
        thread.join()


def test_a_key_goes_to_the_address_of_a_file_only_when_the_user_trusts_it(
    project: Path, author: tuple[str, list[str]]
) -> None:
    address, seen = author
    write(project, base_url=address, model="gpt-5-mini")
    run = ("run", "-c", "agent.yaml", "look around", "--no-save", "--backend", "docker")
    refused = paddock(*run)
    assert refused.returncode == 1
    assert "base_url" in refused.stderr
    assert "paddock trust agent.yaml" in refused.stderr
    assert seen == []
    paddock(*run, "--base-url", address.replace("/v1", "/mine"))
    assert len(seen) == 1
    paddock(*run, "--trust")
    assert len(seen) == 2
    assert paddock(*run).returncode == 1
    assert len(seen) == 2


def test_setup_of_a_project_runs_on_this_machine_only_when_the_user_trusts_it(
    project: Path,
) -> None:
    mark = project / "ran"
    write(project, **local(isolation="none", setup=[f"touch {mark}"]))
    (project / "paddock.toml").write_text(f'[sandbox]\nsetup = ["touch {mark}"]\n')
    for arguments in (
        ("run", "-c", "agent.yaml", "go", "--no-save"),
        ("run", "go", "--no-save", "--model", "scripted:model.yaml", "--isolation", "none"),
        ("exec", "--isolation", "none", "--", "true"),
    ):
        done = paddock(*arguments)
        assert done.returncode == 1, done.stderr
        assert "without isolation" in done.stderr
        assert not mark.exists()
    assert paddock("exec", "--isolation", "none", "--no-setup", "--", "true").returncode == 0
    assert not mark.exists()
    assert paddock("trust", "paddock.toml").returncode == 0
    assert paddock("exec", "--isolation", "none", "--", "true").returncode == 0
    assert mark.exists()


def test_trust_is_for_this_path_and_these_contents_and_can_be_taken_back(project: Path) -> None:
    (project / "prompt.md").write_text("Be kind.")
    path = write(project, auto_approve=True, system_prompt="prompt.md", **local(isolation="none"))
    run = ("run", "-c", "agent.yaml", "go", "--no-save")
    assert paddock(*run).returncode == 1
    trusted = paddock("trust", "agent.yaml")
    assert trusted.returncode == 0
    assert "auto_approve: true" in trusted.stdout
    assert paddock("trust", "--list").stdout == f"{path}\n"
    assert paddock(*run).returncode == 0
    (project / "prompt.md").write_text("Be cruel.")
    assert paddock(*run).returncode == 1
    (project / "prompt.md").write_text("Be kind.")
    assert paddock(*run).returncode == 0
    (project / "copy.yaml").write_bytes(path.read_bytes())
    assert paddock("run", "-c", "copy.yaml", "go", "--no-save").returncode == 1
    assert paddock("trust", "--forget", "agent.yaml").returncode == 0
    assert paddock(*run).returncode == 1


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        ({"auto_approve": True}, ["--no-auto-approve"]),
        ({"profile": "unrestricted"}, ["--profile", "readonly"]),
        ({"base_url": "http://127.0.0.1:9"}, ["--base-url", "http://127.0.0.1:8"]),
        (local(isolation="none", setup=["exit 3"]), ["--isolation", "bubblewrap", "--no-setup"]),
        (local(network="full"), ["--network", "none"]),
        (local(uploads=[["/etc", "etc"]]), ["--upload", "model.yaml:m"]),
        (local(isolation="none"), ["--backend", "docker"]),
    ],
)
def test_options_take_precedence_over_a_file_and_what_they_replace_needs_no_trust(
    keys: dict[str, object], options: list[str], project: Path
) -> None:
    write(project, **keys)
    run = ("run", "-c", "agent.yaml", "go", "--no-save")
    assert paddock(*run).returncode == 1
    done = paddock(*run, *options)
    assert done.returncode == 0, done.stderr


def test_a_session_that_came_with_a_project_is_not_resumed_unasked(project: Path) -> None:
    session = project / "sessions" / "evil"
    session.mkdir(parents=True)
    session.parent.chmod(0o700)
    session.chmod(0o700)
    (session / "trace.jsonl").touch()
    write(session, **local(isolation="none")).rename(session / "config.yaml")
    for arguments in (
        ("sessions", "resume", "latest", "go", "--session-dir", "sessions"),
        ("run", "--resume", "sessions/evil", "go"),
    ):
        done = paddock(*arguments)
        assert done.returncode == 1
        assert "backend.isolation: none" in done.stderr


def test_a_session_that_was_made_here_is_resumed_without_a_question(project: Path) -> None:
    options = ("--session-dir", "kept")
    made = paddock(
        "run", "go", "--model", "scripted:model.yaml", "--isolation", "none", "--no-project",
        *options,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    again = paddock("sessions", "resume", "latest", "on", *options)
    assert again.returncode == 0, again.stderr


def test_files_of_the_users_own_configuration_need_no_trust(project: Path) -> None:
    own = project.parent / "home" / ".config" / "paddock"
    own.mkdir(parents=True)
    path = write(own, auto_approve=True, **local(isolation="none"))
    assert paddock("run", "-c", str(path), "go", "--no-save").returncode == 0


def test_without_a_home_nothing_is_trusted_and_nothing_of_the_project_is_read_for_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """platformdirs leaves the ~ of a user without a home, which is then a directory here."""
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_: Path("~/.local/state/paddock"))
    path = write(project, auto_approve=True)
    (project / "~/.local/state/paddock").mkdir(parents=True, mode=0o700)
    (project / "~/.local/state/paddock/trusted.json").write_text(f'{{"{path}": "x"}}')
    store = TrustStore()
    assert not store.trusts(path, "x")
    with pytest.raises(ConfigError, match="XDG_STATE_HOME"):
        store.remember(path, "x")


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_at_a_terminal_the_user_is_asked_once(answer: str, code: int, project: Path) -> None:
    write(project, auto_approve=True, **local(isolation="none"))
    run = ["run", "-c", "agent.yaml", "go", "--no-save"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*PADDOCK, *run], stdin=theirs, stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while b"[y/N] " not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, answer.encode())
        with contextlib.suppress(OSError):  # the other end is closed
            while os.read(ours, 4096):
                pass
        assert process.wait(DEADLINE) == code
    os.close(ours)
    assert b"auto_approve: true" in shown
    assert paddock(*run).returncode == code
