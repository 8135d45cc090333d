"""The project file: where it is found, what it may say, and how it meets the options."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
import typer

from paddock import ConfigError, DockerBackend, Image, LocalBackend, Unsupported
from paddock._project_model import KEYS
from paddock.backends import base
from paddock.backends.uv import install_command, require_command
from paddock.cli import main
from paddock.cli.init import TEMPLATE
from paddock.cli.recipes import make_backend
from paddock.project import MAX_FILE_SIZE, Project, find_project

if TYPE_CHECKING:
    from paddock.backends.base import Backend, ProgressCallback
    from paddock.sandbox import Sandbox

pytestmark = pytest.mark.rows("S-58")

PAGE = Path(__file__).parents[3] / "docs" / "project-file.md"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, which is the current directory."""
    folder = tmp_path / "app"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PADDOCK_BACKEND", raising=False)
    return folder


def write(folder: Path, text: str, name: str = "paddock.toml") -> Project:
    (folder / name).write_text(textwrap.dedent(text))
    project = find_project(folder)
    assert project is not None
    return project


# ------------------------------------------------------------------------- finding


def test_the_file_is_found_from_any_directory_of_the_project(root: Path) -> None:
    deep = root / "a" / "b"
    deep.mkdir(parents=True)
    (root / "paddock.toml").touch()
    found = find_project(deep)
    assert found is not None
    assert (found.path, found.root) == (root / "paddock.toml", root)


def test_the_nearest_file_holds(root: Path) -> None:
    write(root, '[sandbox]\nimage = "outer"')
    inner = root / "inner"
    inner.mkdir()
    assert write(inner, '[sandbox]\nimage = "inner"').image == "inner"


def test_without_a_file_there_is_no_project(root: Path) -> None:
    assert find_project(root) is None


def test_a_pyproject_with_its_table_is_a_project_file(root: Path) -> None:
    text = '[tool.paddock.sandbox]\nimage = "x"\n[tool.paddock.sandbox.env]\nA = "1"'
    found = write(root, text, "pyproject.toml")
    assert (found.path, found.image, found.env) == (root / "pyproject.toml", "x", {"A": "1"})


def test_paddock_toml_goes_before_pyproject_toml(root: Path) -> None:
    (root / "pyproject.toml").write_text('[tool.paddock.sandbox]\nimage = "py"')
    assert write(root, '[sandbox]\nimage = "own"').image == "own"


@pytest.mark.parametrize(
    "text", ["[project]\nname = 'paddock'", "[tool.other]\n", "[[[ not toml", ""]
)
def test_a_pyproject_without_its_table_is_passed_by(root: Path, text: str) -> None:
    inner = root / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text(text)
    (root / "paddock.toml").touch()
    found = find_project(inner)
    assert found is not None
    assert found.path == root / "paddock.toml"


def test_what_is_no_file_is_passed_by(root: Path) -> None:
    (root / "paddock.toml").mkdir()
    assert find_project(root) is None
    os.mkfifo(root / "pyproject.toml")
    assert find_project(root) is None


@pytest.mark.parametrize("name", ["paddock.toml", "pyproject.toml"])
def test_what_a_stranger_put_into_a_directory_of_everyone_is_passed_by(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = root / name
    file.write_text("[tool.paddock]" if name == "pyproject.toml" else "")
    if os.getuid() == 0:
        os.chown(file, 4242, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert find_project(root) is not None
    root.chmod(0o1777)
    assert find_project(root) is None


# ------------------------------------------------------------------------- reading


def test_all_that_the_file_may_say_is_read(root: Path) -> None:
    found = write(
        root,
        """
        [sandbox]
        image = "python:3.12-slim"
        working_dir = "/srv/app"
        setup = ["make", "make test"]
        uv_version = "0.9.5"

        [sandbox.env]
        A = "1"
        """,
    )
    assert found == Project(
        path=root / "paddock.toml",
        image="python:3.12-slim",
        working_dir="/srv/app",
        setup=("make", "make test"),
        uv_version="0.9.5",
        env={"A": "1"},
    )


def test_a_snapshot_goes_before_a_dockerfile_and_that_before_an_image(root: Path) -> None:
    (root / "Dockerfile").write_text("FROM x")
    both = write(root, '[sandbox]\ndockerfile = "Dockerfile"\nimage = "i"')
    assert (both.snapshot, both.dockerfile, both.image) == (None, root / "Dockerfile", None)
    every = write(root, '[sandbox]\ndockerfile = "Dockerfile"\nimage = "i"\nsnapshot = "s"')
    assert (every.snapshot, every.dockerfile, every.image) == ("s", None, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[sandbox]\nimge = "x"', r"sandbox\.imge: there is no such key; did you mean .*\.image\?"),
        ('image = "x"', r": image: there is no such key; did you mean sandbox\.image\?"),
        ("[snadbox]", r"snadbox: .* did you mean sandbox\?"),
        ("[env]", r": env: .* did you mean sandbox\.env\?"),
        ("[sandbox]\nxyzzy = 1", r"sandbox\.xyzzy: .* there are: image, dockerfile, snapshot"),
        ("sandbox = 3", r"sandbox: give a table, not a number"),
        ('[sandbox]\nsetup = "make"', r"sandbox\.setup: give a list, not text"),
        ('[sandbox]\nsetup = ["a", 3]', r"sandbox\.setup\[2\]: give text in quotes, not a number"),
        ("[sandbox]\nimage = true", r"sandbox\.image: give text in quotes, not true or false"),
        ("[sandbox]\nimage = 2026-01-01", r"sandbox\.image: give text .* not a date or time"),
        ('[sandbox]\nimage = " "', r"sandbox\.image: give a text that is not empty"),
        ("[sandbox.env]\nPORT = 8080", r"sandbox\.env\.PORT: give text in quotes, not a number"),
        ('[sandbox.env]\n"A B" = ""', r"sandbox\.env: 'A B' is no variable"),
        ('[sandbox]\nworking_dir = "src"', r"sandbox\.working_dir: give an absolute path"),
        ('[sandbox]\nuv_version = "1; reboot"', r"sandbox\.uv_version: give a whole version"),
        ('[sandbox]\ndockerfile = "../D"', r"sandbox\.dockerfile: '../D' is outside"),
        ('[sandbox]\ndockerfile = "D"', r"sandbox\.dockerfile: 'D' is no file"),
        ("[sandbox]\nimage = x", r"line 2, column 9"),
        ("a = " + "[" * 50_000, "nested too deeply"),
        ("#" * (MAX_FILE_SIZE + 1), "larger than"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_what_is_wrong_is_told_with_the_file_and_the_place(
    root: Path, text: str, told: str
) -> None:
    (root / "paddock.toml").write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        find_project(root)
    assert str(caught.value).startswith(str(root / "paddock.toml"))


def test_bytes_that_are_no_text_are_told(root: Path) -> None:
    (root / "paddock.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"paddock\.toml: .*utf-8"):
        find_project(root)


def test_each_fault_is_told_at_once(root: Path) -> None:
    (root / "paddock.toml").write_text('[sandbox]\nimage = 1\nsetpu = []\nsnapshot = ""')
    with pytest.raises(ConfigError) as caught:
        find_project(root)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[tool.paddock.sandbox]\nimge = 1",
            r"tool\.paddock\.sandbox\.imge: .*paddock\.sandbox\.i",
        ),
        ("[tool]\npaddock = 1", r"tool\.paddock: give a table, not a number"),
        ("[tool.paddock\n", "line 1"),
    ],
)
def test_keys_of_a_pyproject_are_told_as_they_stand_there(root: Path, text: str, told: str) -> None:
    (root / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        find_project(root)


def test_a_dockerfile_behind_a_link_out_of_the_project_is_refused(root: Path) -> None:
    (root.parent / "secret").write_text("FROM x")
    (root / "Dockerfile").symlink_to(root.parent / "secret")
    with pytest.raises(ConfigError, match="outside of the project"):
        write(root, '[sandbox]\ndockerfile = "Dockerfile"')


# ------------------------------------------------------------ meeting the options


@dataclass(frozen=True, kw_only=True)
class Cloud(base.Backend):
    """A backend elsewhere, with fields that those of this machine lack."""

    name: ClassVar[str] = "cloud"
    default_working_dir: ClassVar[str | None] = "/home/cloud"
    image: str | Image = "some"
    snapshot: str | None = None
    uv_version: str | None = None

    async def _make(self, tell: ProgressCallback) -> Sandbox:
        raise AssertionError("nothing is made here")


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Makes `Cloud` every backend; the names that were asked for."""
    asked: list[str] = []

    def get(name: str) -> type[Backend]:
        asked.append(name)
        return Cloud

    monkeypatch.setattr(base, "get_backend", get)
    return asked


def test_without_a_file_nothing_is_added(root: Path) -> None:
    assert make_backend(None) == LocalBackend()
    assert make_backend("docker") == DockerBackend()


def test_the_project_is_put_below_the_default_directory_and_worked_in(root: Path) -> None:
    project = write(root, "")
    assert make_backend("docker", project=project) == DockerBackend(
        working_dir="/workspace/app", uploads=[(str(root), "/workspace/app")]
    )


def test_a_fresh_directory_of_this_machine_is_the_projects(root: Path) -> None:
    assert make_backend("local", project=write(root, "")) == LocalBackend(
        uploads=[(str(root), ".")]
    )


@pytest.mark.parametrize(
    ("working_dir", "place"),
    [
        ("/srv/it", "/srv/it"),
        ("/workspace/app", "/workspace/app"),
        ("/workspace/app/src", "/workspace/app"),
        ("/workspace/app2", "/workspace/app2"),
    ],
)
def test_the_working_directory_holds_the_project_or_is_in_it(
    root: Path, working_dir: str, place: str
) -> None:
    project = write(root, f'[sandbox]\nworking_dir = "{working_dir}"')
    recipe = make_backend("docker", project=project)
    assert (recipe.working_dir, recipe.uploads) == (working_dir, ((str(root), place),))


def test_uploads_that_are_given_replace_that_of_the_project(root: Path) -> None:
    project = write(root, "")
    for name in ("local", "docker"):
        recipe = make_backend(name, upload=[f"{root}:there"], project=project)
        assert (recipe.uploads, recipe.working_dir) == (((str(root), "there"),), None)


def test_into_a_directory_of_this_machine_that_is_given_nothing_is_copied(root: Path) -> None:
    project = write(root, '[sandbox]\nworking_dir = "/srv"')
    assert make_backend("local", working_dir=".", project=project) == LocalBackend(working_dir=".")


def test_a_file_gives_no_directory_of_this_machine_away(root: Path) -> None:
    project = write(root, '[sandbox]\nworking_dir = "/etc"')
    with pytest.raises(ConfigError, match=r"sandbox\.working_dir: the local backend .*--working-d"):
        make_backend("local", project=project)


def test_options_go_before_the_file(root: Path) -> None:
    project = write(
        root,
        """
        [sandbox]
        image = "theirs"
        working_dir = "/theirs"
        setup = ["theirs"]
        [sandbox.env]
        A = "theirs"
        B = "kept"
        """,
    )
    recipe = make_backend(
        "docker",
        image="mine",
        working_dir="/mine",
        setup=["mine"],
        env=["A=mine"],
        project=project,
    )
    assert recipe == DockerBackend(
        image="mine",
        working_dir="/mine",
        setup=["mine"],
        env_vars={"A": "mine", "B": "kept"},
        uploads=[(str(root), "/mine")],
    )


def test_a_file_fills_what_no_option_says(root: Path) -> None:
    text = '[sandbox]\nimage = "i"\nsetup = ["make"]\n[sandbox.env]\nA = "1"'
    recipe = make_backend("docker", upload=[f"{root}:/x"], project=write(root, text))
    assert recipe == DockerBackend(
        image="i", setup=["make"], env_vars={"A": "1"}, uploads=[(str(root), "/x")]
    )


def test_a_dockerfile_is_an_image_to_a_backend_that_has_images(root: Path) -> None:
    (root / "Dockerfile").write_text("FROM x")
    image = Image.from_dockerfile(root / "Dockerfile")
    by_option = make_backend("docker", dockerfile=Path("Dockerfile"))
    assert by_option == DockerBackend(image=image)
    project = write(root, '[sandbox]\ndockerfile = "Dockerfile"')
    by_file = make_backend("docker", project=project)
    assert isinstance(by_file, DockerBackend)
    assert by_file.image == image


def test_a_missing_dockerfile_is_told_before_anything_is_made(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Dockerfile"):
        make_backend("docker", dockerfile=Path("Dockerfile"))


def test_an_option_for_a_beginning_sets_that_of_the_file_aside(
    root: Path, cloud: list[str]
) -> None:
    project = write(root, '[sandbox]\nsnapshot = "theirs"')
    recipe = make_backend("cloud", image="mine", project=project)
    assert isinstance(recipe, Cloud)
    assert (recipe.image, recipe.snapshot) == ("mine", None)


def test_a_snapshot_or_a_dockerfile_implies_daytona(root: Path, cloud: list[str]) -> None:
    (root / "Dockerfile").write_text("FROM x")
    make_backend(None, snapshot="s")
    make_backend(None, dockerfile=Path("Dockerfile"))
    make_backend("docker", dockerfile=Path("Dockerfile"))
    make_backend(None, image="x")
    assert cloud == ["daytona", "daytona", "docker", "local"]


@pytest.mark.parametrize(
    "given", [("image", "snapshot"), ("dockerfile", "snapshot"), ("image", "dockerfile")]
)
def test_only_one_beginning_can_be_given(root: Path, given: tuple[str, str]) -> None:
    with pytest.raises(typer.BadParameter, match="one of --image, --dockerfile and --snapshot"):
        make_backend(
            None,
            image="x" if "image" in given else None,
            dockerfile=Path("x") if "dockerfile" in given else None,
            snapshot="x" if "snapshot" in given else None,
        )


@pytest.mark.parametrize(
    ("backend", "key"), [("local", "image"), ("local", "dockerfile"), ("docker", "snapshot")]
)
def test_what_the_backend_cannot_begin_with_is_refused(root: Path, backend: str, key: str) -> None:
    (root / "Dockerfile").write_text("FROM x")
    project = write(root, f'[sandbox]\n{key} = "Dockerfile"')
    with pytest.raises(ConfigError, match=rf"toml: sandbox\.{key}: the {backend} backend does not"):
        make_backend(backend, project=project)
    with pytest.raises(Unsupported, match=f"the {backend} backend does not support --{key}"):
        make_backend(
            backend,
            image="Dockerfile" if key == "image" else None,
            dockerfile=Path("Dockerfile") if key == "dockerfile" else None,
            snapshot="Dockerfile" if key == "snapshot" else None,
        )


# ------------------------------------------------------------------------------ uv


def test_uv_is_seen_to_before_the_other_commands(root: Path) -> None:
    project = write(root, '[sandbox]\nuv_version = "0.9.5"\nsetup = ["uv sync"]')
    assert make_backend("docker", project=project).setup == (install_command("0.9.5"), "uv sync")
    assert make_backend("local", project=project).setup == (require_command("0.9.5"), "uv sync")


def test_a_backend_that_sees_to_uv_itself_is_asked_to(root: Path, cloud: list[str]) -> None:
    project = write(root, '[sandbox]\nuv_version = "0.9.5"\nsetup = ["uv sync"]')
    recipe = make_backend("cloud", project=project)
    assert isinstance(recipe, Cloud)
    assert (recipe.uv_version, recipe.setup) == ("0.9.5", ("uv sync",))


INSTALLER = """\
#!/bin/sh
echo "echo 'echo uv 0.9.5 built today' >"'"$UV_INSTALL_DIR/uv"; chmod +x "$UV_INSTALL_DIR/uv"'
"""


@dataclass(frozen=True)
class Machine:
    """A home with `~/.local/bin` on PATH, and programs that stand in for those of a network."""

    home: Path

    def program(self, name: str, text: str) -> None:
        path = self.home / "stubs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.home}/.local/bin:{self.home}/stubs:/usr/bin:/bin"
        return subprocess.run(
            ["sh", "-c", command],
            env={"HOME": str(self.home), "PATH": path},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.fixture
def offline(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    for name in ("curl", "wget", "python3"):
        machine.program(name, f"#!/bin/sh\necho {name}: no network >&2; exit 6\n")
    return machine


@pytest.mark.rows("S-55", "S-56")
@pytest.mark.parametrize("fetcher", ["curl", "wget"])
def test_uv_is_installed_where_later_commands_find_it(offline: Machine, fetcher: str) -> None:
    offline.program(fetcher, INSTALLER)
    done = offline.run(install_command("0.9.5"))
    assert done.returncode == 0, done.stderr
    assert (offline.home / ".local/bin/uv").exists()
    assert offline.run(require_command("0.9.5")).returncode == 0


def test_uv_of_that_version_is_left_as_it_is(offline: Machine) -> None:
    offline.program("uv", "#!/bin/sh\necho uv 0.9.5\n")
    for command in (install_command("0.9.5"), require_command("0.9.5")):
        done = offline.run(command)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_uv_of_another_version_is_not_enough(offline: Machine) -> None:
    offline.program("uv", "#!/bin/sh\necho uv 0.9.50\n")
    assert offline.run(require_command("0.9.5")).returncode == 1
    offline.program("curl", INSTALLER)
    assert offline.run(install_command("0.9.5")).returncode == 0


def test_without_a_network_it_says_what_to_do(offline: Machine) -> None:
    done = offline.run(install_command("0.9.5"))
    assert done.returncode == 1
    assert "curl: no network" in done.stderr
    assert "python3: no network" in done.stderr
    assert "uv 0.9.5 could not be installed" in done.stderr
    assert "put it into the image" in done.stderr
    assert "install it" in offline.run(require_command("0.9.5")).stderr.lower()


# ------------------------------------------------------------------------ the rest


def test_init_writes_a_file_that_holds_and_never_another(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["init"]) == 0
    assert find_project(root) == Project(path=root / "paddock.toml")
    (root / "paddock.toml").write_text("# mine")
    assert main(["init"]) == 1
    assert "already" in capfd.readouterr().err
    assert (root / "paddock.toml").read_text() == "# mine"


def test_what_init_writes_names_each_key_as_it_may_be_set(root: Path) -> None:
    lines = [re.sub(r"^# (?=[A-Za-z_]+ = )", "", line) for line in TEMPLATE.splitlines()]
    (root / "Dockerfile").touch()
    project = write(root, "\n".join(lines))
    assert project.snapshot == "a-name"
    assert all(key.rpartition(".")[2] in TEMPLATE for key in KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_the_page_tells_of_each_key(key: str) -> None:
    assert key.rpartition(".")[2] in PAGE.read_text()


BLOCKS = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_what_the_page_shows_is_a_valid_file(root: Path, block: str) -> None:
    (root / "Dockerfile").touch()
    write(root, block, "pyproject.toml" if "tool.paddock" in block else "paddock.toml")
