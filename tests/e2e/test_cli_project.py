"""`paddock` in a project with a project file, on real sandboxes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Paddock

pytestmark = pytest.mark.rows("S-58")

SCRIPT = """\
- tool_calls:
    - {name: bash, arguments: {command: "pwd; cat src/main.txt made; echo $GREETING"}}
- text: Done.
"""

BACKENDS = [
    pytest.param("local", id="local"),
    pytest.param("docker", id="docker", marks=pytest.mark.docker),
]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "docker":
        request.getfixturevalue("base_image")
    return name


@pytest.fixture
def project(paddock: Paddock) -> Path:
    """A project in the current directory: sources, and what an upload leaves out."""
    root = paddock.cwd
    for name in ("src", ".git", ".venv", "venv", ".tox", "__pycache__", "node_modules"):
        (root / name).mkdir()
        (root / name / "main.txt").write_text(f"{name}\n")
    (root / "paddock.toml").write_text(
        '[sandbox]\nsetup = ["echo made > made"]\n[sandbox.env]\nGREETING = "hello"\n'
    )
    return root


def inside(paddock: Paddock, *args: str) -> list[str]:
    """What a shell command says in a sandbox that `args` describe."""
    done = paddock("exec", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.rows("S-57", "S-59")
def test_exec_has_the_project_its_setup_and_its_variables(
    paddock: Paddock, project: Path, backend: str
) -> None:
    command = "pwd; ls -A; cat src/main.txt made; echo $GREETING"
    told = inside(paddock, "-b", backend, "--", "sh", "-c", command)
    place, *files = told[:-3]
    assert told[-3:] == ["src", "made", "hello"]
    assert sorted(files) == ["made", "paddock.toml", "src"]
    if backend == "docker":
        assert place == f"/workspace/{project.name}"
    assert not (project / "made").exists()


def test_a_pyproject_in_a_directory_above_holds_too(
    paddock: Paddock, project: Path, backend: str
) -> None:
    (project / "paddock.toml").unlink()
    (project / "pyproject.toml").write_text('[tool.paddock.sandbox]\nsetup = ["echo py > made"]')
    below = type(paddock)(paddock.home, project / "src")
    assert inside(below, "-b", backend, "--", "cat", "made", "src/main.txt") == ["py", "src"]


def test_options_go_before_the_file(paddock: Paddock, project: Path, backend: str) -> None:
    told = inside(
        paddock,
        *("-b", backend, "--setup", "echo mine > made", "--env", "GREETING=bye"),
        *("--upload", "src:elsewhere", "--"),
        *("sh", "-c", "ls; cat made elsewhere/main.txt; echo $GREETING"),
    )
    assert told == ["elsewhere", "made", "mine", "src", "bye"]


def test_without_the_file_the_sandbox_is_empty(
    paddock: Paddock, project: Path, backend: str
) -> None:
    assert inside(paddock, "-b", backend, "--no-project", "--", "ls", "-A") == []


def test_an_agent_works_in_the_project(paddock: Paddock, project: Path, backend: str) -> None:
    (project / "script.yaml").write_text(SCRIPT * 2)  # a resumed session goes on in it
    with_model = ("--model", "scripted:script.yaml", "--profile", "developer")
    for command in (("run", "Go", *with_model), ("sessions", "resume", "latest", "Again")):
        done = paddock(*command, "-y", "--json", "-b", backend)
        assert done.returncode == 0, done.stderr
        assert "made" in done.stdout
        assert "hello" in done.stdout
        assert "No such file" not in done.stdout


@pytest.mark.rows("S-59")
def test_a_setup_command_that_fails_stops_before_the_agent(
    paddock: Paddock, project: Path, backend: str
) -> None:
    (project / "script.yaml").write_text(SCRIPT)
    (project / "paddock.toml").write_text('[sandbox]\nsetup = ["echo why >&2; exit 7", "exit 8"]')
    done = paddock(
        "run", "Go", "--model", "scripted:script.yaml", "--profile", "developer", "-b", backend
    )
    assert done.returncode == 1
    assert "Setup command failed (exit 7): echo why >&2; exit 7" in done.stderr
    assert "Done." not in done.stdout


def test_a_directory_of_this_machine_is_worked_in_as_it_is(paddock: Paddock, project: Path) -> None:
    place = project.parent / "place"
    place.mkdir()
    told = inside(paddock, "-w", str(place), "--", "ls")
    assert told == ["made"]
    assert [path.name for path in place.iterdir()] == ["made"]


def test_an_agents_file_that_names_a_directory_keeps_the_project_out_of_it(
    paddock: Paddock, project: Path
) -> None:
    place = project.parent / "place"
    (project / "script.yaml").write_text(SCRIPT)
    (project / "agent.yaml").write_text(f"model: scripted:script.yaml\nworking_dir: {place}\n")
    done = paddock("run", "Go", "-c", "agent.yaml", "--trust", "-y", "--profile", "developer")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in place.iterdir()] == ["made"]
    other = project.parent / "other"
    done = paddock(
        "run", "Go", "-c", "agent.yaml", "-y", "--profile", "developer", "-w", str(other)
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in other.iterdir()] == ["made"]


@pytest.mark.docker
@pytest.mark.usefixtures("base_image")
def test_the_backend_of_an_agents_file_is_taken(paddock: Paddock, project: Path) -> None:
    (project / "script.yaml").write_text(SCRIPT)
    (project / "agent.yaml").write_text("model: scripted:script.yaml\nbackend: docker\n")
    args = ("run", "Go", "-c", "agent.yaml", "-y", "--profile", "developer", "--json")
    assert f"/workspace/{project.name}" in paddock(*args).stdout
    assert f"/workspace/{project.name}" not in paddock(*args, "-b", "local").stdout


@pytest.mark.docker
def test_a_working_directory_in_the_project_is_one_of_its_directories(
    paddock: Paddock, project: Path, base_image: str
) -> None:
    place = f"/workspace/{project.name}/src"
    with (project / "paddock.toml").open("w") as file:
        file.write(f'[sandbox]\nimage = "{base_image}"\nworking_dir = "{place}"')
    told = inside(paddock, "-b", "docker", "--", "sh", "-c", "pwd; ls .. .")
    assert told[0] == place
    assert {"main.txt", "paddock.toml"} <= set(told)


@pytest.mark.docker
@pytest.mark.parametrize("by", ["option", "file"])
def test_a_dockerfile_is_built_by_docker(
    paddock: Paddock, project: Path, base_image: str, by: str
) -> None:
    folder = project / "docker"
    folder.mkdir()
    (folder / "Dockerfile").write_text(f"FROM {base_image}\nCOPY note.txt /note.txt\n")
    (folder / "note.txt").write_text("from the context\n")
    args = ["--dockerfile", "docker/Dockerfile"] if by == "option" else []
    if not args:
        (project / "paddock.toml").write_text('[sandbox]\ndockerfile = "docker/Dockerfile"')
    told = inside(paddock, "-b", "docker", *args, "--", "cat", "/note.txt")
    assert told == ["from the context"]


@pytest.mark.docker
@pytest.mark.usefixtures("base_image")
def test_the_backend_of_the_environment_is_taken(paddock: Paddock, project: Path) -> None:
    done = paddock("exec", "--", "pwd", env={"PADDOCK_BACKEND": "docker"})
    assert done.stdout == f"/workspace/{project.name}\n", done.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[sandbox\n", "line 1"),
        ('[sandbox]\nimage = "x"', "the local backend does not support it"),
    ],
)
def test_what_is_wrong_with_the_file_is_told_without_a_traceback(
    paddock: Paddock, project: Path, text: str, told: str
) -> None:
    (project / "paddock.toml").write_text(text)
    for command in (("exec", "--", "true"), ("run", "x", "--model", "scripted:none.yaml")):
        done = paddock(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{project}/paddock.toml: " in done.stderr
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert paddock("exec", "--no-project", "--", "true").returncode == 0


def test_doctor_says_which_file_holds(paddock: Paddock, project: Path) -> None:
    def finding() -> dict[str, str]:
        found = json.loads(paddock("doctor", "--json").stdout)
        return next(each for each in found if each["name"] == "project file")

    assert finding() == {
        "name": "project file",
        "status": "ok",
        "detail": f"{project}/paddock.toml",
        "advice": "",
    }
    (project / "paddock.toml").write_text("[sandbox\n")
    wrong = finding()
    assert wrong["status"] == "missing"
    assert "line 1" in wrong["detail"]
    assert "--no-project" in wrong["advice"]
    (project / "paddock.toml").unlink()
    assert finding()["detail"] == "none, here or above"


def test_the_demo_has_a_project_of_its_own(paddock: Paddock, project: Path) -> None:
    (project / "paddock.toml").write_text('[sandbox]\nimage = "no-such-image"')
    done = paddock("demo", "-n", "0")
    assert done.returncode == 0, done.stderr
