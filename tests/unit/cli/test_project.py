"""The project file: where it is found, what it may say, and who tells of it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from paddock import ConfigError
from paddock._project_model import KEYS
from paddock.cli import main
from paddock.cli.init import TEMPLATE
from paddock.project import MAX_FILE_SIZE, Project, find_project
from tests.unit.cli.project_files import write

pytestmark = pytest.mark.rows("S-58")

PAGE = Path(__file__).parents[3] / "docs" / "project-file.md"


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
