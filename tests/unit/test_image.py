"""Images: what their verbs refuse, what they compile to, what changes their digest."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.errors import ConfigError
from paddock.image import Image, PipInstall, RunCommands

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BASE = Image.from_registry("debian:bookworm-slim")

TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30
).filter(str.strip)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
LINES = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), max_size=30)
TREES = st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.binary(max_size=50))


def lines(image: Image) -> list[str]:
    """The Dockerfile, without its first line and what is declared for indexes."""
    _, *rest, end = image.dockerfile().split("\n")
    assert not end
    return [line for line in rest if not line.startswith("ARG ")]


def argv(line: str) -> list[str]:
    word, _, rest = line.partition(" ")
    assert word == "RUN"
    found: list[str] = json.loads(rest)
    return found


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(image: Image) -> set[str]:
    return {name for name, _ in image.context()}


def test_a_verb_gives_a_new_image_and_leaves_the_old_one() -> None:
    longer = BASE.run_commands("true")
    assert BASE.steps == BASE.steps[:1]
    assert longer.steps == (*BASE.steps, RunCommands(commands=("true",)))


def test_images_of_equal_steps_are_equal_and_hash_alike() -> None:
    one = BASE.env({"A": "1", "B": "2"}).pip_install("httpx", pre=True)
    two = BASE.env({"B": "2", "A": "1"}).pip_install("httpx", pre=True)
    assert one == two
    assert hash(one) == hash(two)
    assert one.digest() == two.digest()


def test_steps_can_be_inspected() -> None:
    step = Image.debian_slim("3.13").pip_install("httpx>=0.27", index_url="https://x/simple")
    assert isinstance(step.steps[1], PipInstall)
    assert step.steps[1].packages == ("httpx>=0.27",)
    assert step.steps[1].options.words == ("--index-url", "https://x/simple")


def test_debian_slim_begins_with_docker_s_own_python() -> None:
    assert Image.debian_slim("3.13").dockerfile() == "FROM python:3.13-slim-bookworm\n"


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Image.from_registry("two words"), "from_registry: 'two words'"),
        (lambda: Image.debian_slim("2.7"), "debian_slim: '2.7'"),
        (BASE.apt_install, "apt_install"),
        (lambda: BASE.apt_install("git; rm -rf /"), "apt_install: 'git; rm -rf /'"),
        (lambda: BASE.pip_install("-r other.txt"), "pip_install: '-r other.txt'"),
        (lambda: BASE.pip_install("x", index_url="--pre"), "index_url: '--pre'"),
        (lambda: BASE.run_commands(""), "run_commands: ''"),
        (lambda: BASE.run_commands("a\0b"), "run_commands: 'a\\x00b'"),
        (lambda: BASE.env({}), "env"),
        (lambda: BASE.env({"A B": "1"}), "env: 'A B'"),
        (lambda: BASE.env({"A": "1\n2"}), "env: '1\\n2'"),
        (lambda: BASE.env({"A": 1}), "env: the value of A"),  # type: ignore[dict-item]
        (lambda: BASE.workdir("a\nb"), "workdir: 'a\\nb'"),
        (lambda: BASE.workdir("~/x"), "workdir: '~/x'"),
        (lambda: BASE.user("a b"), "user: 'a b'"),
        (lambda: BASE.add_local_file("", "/x"), "add_local_file"),
        (lambda: BASE.add_local_dir(".", "/x", ignore="*.pyc"), "add_local_dir: ignore"),
        (lambda: BASE.uv_sync(".", extras="dev"), "uv_sync: extras"),
    ],
)
def test_input_that_cannot_be_right_names_the_verb_and_the_value(
    make: Callable[[], Image], named: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("image", "verb"),
    [
        (BASE.add_local_file("missing", "/x"), "add_local_file"),
        (BASE.add_local_file(".", "/x"), "add_local_file"),
        (BASE.add_local_dir("missing", "/x"), "add_local_dir"),
        (BASE.pip_install_from_requirements("missing"), "pip_install_from_requirements"),
        (BASE.pip_install_from_pyproject("missing"), "pip_install_from_pyproject"),
        (BASE.uv_sync("missing"), "uv_sync"),
        (Image.from_dockerfile("missing/Dockerfile"), "from_dockerfile"),
    ],
)
def test_a_file_that_is_not_there_is_told_when_the_image_is_compiled(
    image: Image, verb: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{verb}: /.*: "):
        image.digest()


@given(TEXT)
def test_a_command_reaches_the_shell_as_it_was_written(text: str) -> None:
    (line,) = lines(BASE.run_commands(text))
    assert "\n" not in line
    assert argv(line) == ["/bin/sh", "-c", text]


@given(st.lists(LINES, min_size=1, max_size=4))
def test_a_real_shell_prints_what_a_command_says(values: list[str]) -> None:
    quoted = " ".join("'" + value.replace("'", "'\\''") + "'" for value in values)
    (line,) = lines(BASE.run_commands(f"printf '%s\\0' {quoted}\n"))
    done = subprocess.run(argv(line), capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == [value.encode() for value in values]


@given(NAMES, LINES)
def test_a_variable_is_literal_between_its_quotes(name: str, value: str) -> None:
    """A shell reads double quotes as an engine does, but for backquotes."""
    (line,) = lines(BASE.env({name: value}))
    word, _, quoted = line.removeprefix("ENV ").partition("=")
    assert word == name
    script = f"printf %s {quoted}".replace("`", "\\`")
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode() == value


def test_installs_leave_no_lists_and_no_cache() -> None:
    (apt,) = lines(BASE.apt_install("git", "gcc=4:12.2"))
    command = argv(apt)[2]
    assert "apt-get install -y --no-install-recommends git gcc=4:12.2 && " in command
    assert "rm -rf /var/lib/apt/lists/*" in command
    (pip,) = lines(BASE.pip_install("httpx>=0.27", "rich; python_version < '3.13'"))
    assert argv(pip)[-4:] == [
        "--no-cache-dir",
        "--",
        "httpx>=0.27",
        "rich; python_version < '3.13'",
    ]


def test_the_place_of_packages_may_be_told_to_a_build() -> None:
    text = BASE.pip_install("a").pip_install("b").dockerfile()
    assert text.count("ARG PIP_INDEX_URL\n") == 1


def test_files_are_copied_under_names_that_are_no_patterns(tmp_path: Path) -> None:
    write(tmp_path, {"we[ir]d*.txt": "x"})
    image = BASE.add_local_file(tmp_path / "we[ir]d*.txt", "/data/")
    ((name, path),) = image.context()
    assert path == tmp_path / "we[ir]d*.txt"
    assert lines(image) == [f'COPY ["{name}", "/data/we[ir]d*.txt"]']
    assert not set(name) & set("*?[]")


def test_a_path_in_the_image_is_literal(tmp_path: Path) -> None:
    write(tmp_path, {"a": "x"})
    image = BASE.add_local_file(tmp_path / "a", "/it's $HOME").workdir('/a "b" $C')
    copy, workdir = lines(image)
    assert json.loads(copy.removeprefix("COPY "))[1] == "/it\\'s \\$HOME"
    assert workdir == 'WORKDIR "/a \\"b\\" \\$C"'


def test_a_directory_is_copied_less_what_is_ignored(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"a.py": "", "b.pyc": "", "sub/c.pyc": "", "sub/keep.pyc": "", ".dockerignore": ""},
    )
    image = BASE.add_local_dir(tmp_path, "/src", ignore=["**/*.pyc", "!sub/keep.pyc", ".docker*"])
    found = {name.partition("/")[2].partition("/")[2] for name in names(image)}
    assert found == {"a.py", "sub", "sub/keep.pyc"}


@pytest.mark.parametrize("files", [{}, {"a.pyc": "", "sub/b.pyc": ""}])
def test_of_an_empty_directory_the_directory_is_sent(files: dict[str, str], tmp_path: Path) -> None:
    image = BASE.add_local_dir(write(tmp_path, files), "/src", ignore=["**/*.pyc", "sub"])
    with tarfile.open(fileobj=io.BytesIO(b"".join(image.bundle().tar()))) as archive:
        _, member = archive.getmembers()
    assert member.isdir()
    assert lines(image) == [f'COPY ["{member.name}/", "/src/"]']


def test_links_stay_links_and_sockets_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    bundle = BASE.add_local_dir(tmp_path, "/src").bundle()
    with tarfile.open(fileobj=io.BytesIO(b"".join(bundle.tar()))) as archive:
        _, member = archive.getmembers()
    assert member.issym()
    assert member.linkname == "/etc/passwd"


def test_a_dockerignore_has_docker_s_own_rules(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "Dockerfile": "FROM scratch\nCOPY . /\n",
            ".dockerignore": "# a comment\n\n*.log\n!keep.log\n**/node_modules\n"
            "/secret\nDockerfile\n",
            "a.log": "",
            "keep.log": "",
            "deep/er/node_modules/x.js": "",
            "deep/a.log": "",
            "secret/key": "",
            "# a comment": "",
        },
    )
    found = Image.from_dockerfile(tmp_path / "Dockerfile").bundle()
    # The engine takes the Dockerfile out itself: it has to be sent for that.
    assert {member.name for member in found.members} == {
        "# a comment", ".dockerignore", "Dockerfile", "deep", "deep/a.log", "deep/er", "keep.log",
    }  # fmt: skip
    assert found.name == "Dockerfile"


def test_a_dockerfile_outside_its_context_is_hidden_from_what_is_copied(tmp_path: Path) -> None:
    write(tmp_path, {"docker/x.Dockerfile": "FROM scratch\n", "app/a": "", "app/Dockerfile": "no"})
    bundle = Image.from_dockerfile(tmp_path / "docker/x.Dockerfile", tmp_path / "app").bundle()
    ignored = next(member for member in bundle.members if member.name == ".dockerignore")
    assert isinstance(ignored.source, bytes)
    assert ignored.source.decode().split() == [".dockerignore", bundle.name]
    assert bundle.dockerfile == "FROM scratch\n"


def test_steps_after_a_dockerfile_build_on_it(tmp_path: Path) -> None:
    write(tmp_path, {"Dockerfile": "FROM scratch\n"})
    first = Image.from_dockerfile(tmp_path / "Dockerfile")
    image = first.workdir("/x")
    assert first.parent is None
    assert image.parent == first
    assert image.dockerfile().splitlines()[0] == f"FROM {first.reference()}"


def test_an_image_without_steps_is_called_what_it_begins_with(tmp_path: Path) -> None:
    write(tmp_path, {"Dockerfile": "FROM scratch\n"})
    assert (BASE.name, BASE.reference()) == ("debian:bookworm-slim", "debian:bookworm-slim")
    longer = BASE.workdir("/x")
    assert (longer.name, longer.parent) == (None, BASE)
    assert longer.reference() == f"paddock-image:{longer.digest()}"
    assert Image.from_dockerfile(tmp_path / "Dockerfile").name is None


def test_an_image_begins_once() -> None:
    with pytest.raises(ConfigError, match="begins, once"):
        Image((*BASE.steps, *BASE.steps))
    with pytest.raises(ConfigError, match="begins, once"):
        Image(())


def test_a_pyproject_gives_its_dependencies_extras_and_groups(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "pyproject.toml": """
                [project]
                name = "My.Project"
                dependencies = ["httpx>=0.27"]
                [project.optional-dependencies]
                fast = ["uvloop"]
                all = ["my-project[fast]", "rich"]
                [dependency-groups]
                test = ["pytest", {include-group = "lint"}]
                lint = ["ruff"]
                loop = [{include-group = "loop"}]
                """
        },
    )
    path = tmp_path / "pyproject.toml"
    (line,) = lines(BASE.pip_install_from_pyproject(path, extras=["all"], groups=["test"]))
    _, _, found = " ".join(argv(line)).partition(" -- ")
    assert found == "httpx>=0.27 uvloop rich pytest ruff"
    for bad, message in {"nope": "has no dependency group", "loop": "includes itself"}.items():
        with pytest.raises(ConfigError, match=message):
            BASE.pip_install_from_pyproject(path, groups=[bad]).digest()


@pytest.mark.parametrize("line", ["-r other.txt", "-c limits.txt", "-e .", "./wheel.whl", "."])
def test_requirements_that_need_other_files_are_refused(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, {"r.txt": f"httpx\n{line}\n"}) / "r.txt"
    with pytest.raises(ConfigError, match=r"r\.txt:2: .* needs other files"):
        BASE.pip_install_from_requirements(path).digest()


@given(TREES, TREES)
def test_the_digest_is_that_of_names_and_contents(
    tmp_path_factory: pytest.TempPathFactory, one: dict[str, bytes], two: dict[str, bytes]
) -> None:
    """Wherever the files are, whenever they were written, in whichever order."""
    digests = []
    for index, tree in enumerate((one, dict(reversed(one.items())), two)):
        root = tmp_path_factory.mktemp("tree")
        for name, data in tree.items():
            (root / name).write_bytes(data)
            os.utime(root / name, (index, index))
        digests.append(BASE.add_local_dir(root, "/x").digest())
    assert digests[0] == digests[1]
    assert (digests[0] == digests[2]) == (one == two)


def test_the_digest_changes_with_a_file_s_mode(tmp_path: Path) -> None:
    path = write(tmp_path, {"run": "x"}) / "run"
    image = BASE.add_local_file(path, "/run")
    path.chmod(0o644)
    before = image.digest()
    path.chmod(0o755)
    assert image.digest() != before
    path.chmod(0o644)
    assert image.digest() == before


def test_the_digest_changes_with_what_a_dockerfile_s_image_is_made_of(tmp_path: Path) -> None:
    write(tmp_path, {"Dockerfile": "FROM scratch\n", "a": "1"})
    image = Image.from_dockerfile(tmp_path / "Dockerfile").workdir("/x")
    before = image.digest()
    write(tmp_path, {"a": "2"})
    assert image.digest() != before


def test_the_context_is_a_tar_of_nobody_s_files(tmp_path: Path) -> None:
    write(tmp_path, {"dir/" + "long" * 60: "x" * 1000, "empty": "", "ü": "y"})
    bundle = BASE.add_local_dir(tmp_path, "/src").bundle()
    found = {}
    with tarfile.open(fileobj=io.BytesIO(b"".join(bundle.tar()))) as archive:
        for member in archive:
            assert (member.uid, member.gid) == (0, 0)
            if member.isfile():
                taken = archive.extractfile(member)
                assert taken is not None
                found[member.name.removeprefix("files/0/")] = taken.read()
    assert found == {
        "Dockerfile": bundle.dockerfile.encode(),
        "dir/" + "long" * 60: b"x" * 1000,
        "empty": b"",
        "ü": b"y",
    }


@pytest.mark.parametrize("text", ["other", "longer than it was", ""])
def test_a_file_that_changes_under_the_build_is_noticed(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, {"a": "first"}) / "a"
    bundle = BASE.add_local_file(path, "/a").bundle()
    path.write_text(text)
    with pytest.raises(ConfigError, match="was changed while the image was being built"):
        b"".join(bundle.tar())
