"""Arguments are checked before a backend hears of them, so the errors are the same on all."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import pytest

from paddock._arguments import check_timeout
from paddock.backends.local import LocalBackend
from paddock.errors import ConfigError, ExecTimeout, Unsupported
from paddock.files import FileSystem
from paddock.process import Process, Pty
from paddock.sandbox import Capability, Sandbox

if TYPE_CHECKING:
    from abc import ABCMeta
    from collections.abc import Awaitable, Callable

    from paddock.sandbox import Command


class Asked(Exception):
    """A backend was asked for something."""


async def _ask(*args: object, **options: object) -> Any:
    raise Asked


def _asking(kind: ABCMeta) -> Any:
    """A class in which everything that a backend supplies raises `Asked`."""
    return type(kind.__name__, (kind,), dict.fromkeys(kind.__abstractmethods__, _ask))


class Asking(_asking(Sandbox)):  # type: ignore[misc]
    """A sandbox whose commands start, and do nothing else."""

    id = backend = "asking"
    working_dir = PurePosixPath("/work")
    capabilities = frozenset[Capability]()
    env: dict[str, str] = {}  # noqa: RUF012 - nobody writes to it

    def __init__(self) -> None:
        self.fs: FileSystem = _asking(FileSystem)(self)
        self.commands: list[Command] = []

    async def _start(self, command: Command) -> Process:
        self.commands.append(command)
        process: Process = _asking(Process)()
        return process


@pytest.fixture
def sandbox() -> Asking:
    return Asking()


BAD_PATHS: list[tuple[Any, str]] = [
    ("", "give a path; '.' is the working directory"),
    ("a\0b", "give a path without NUL"),
    ("\ud800", "character 0 is '\\ud800', which UTF-8 cannot hold"),
    (b"a", "give a path of the sandbox as str or PurePosixPath"),
    (None, "give a path of the sandbox as str or PurePosixPath"),
    (5, "give a path of the sandbox as str or PurePosixPath"),
    (PureWindowsPath("a"), "give a path of the sandbox as str or PurePosixPath"),
]
PATHS: dict[str, Callable[[FileSystem, Any], Awaitable[object]]] = {
    "path": lambda fs, path: fs.read_bytes(path),
    "path, lines": lambda fs, path: fs.read_lines(path),
    "path, text": lambda fs, path: fs.read_text(path),
    "path, write": lambda fs, path: fs.write_bytes(path, b""),
    "path, write text": lambda fs, path: fs.write_text(path, ""),
    "path, list": lambda fs, path: fs.list(path),
    "path, stat": lambda fs, path: fs.stat(path),
    "path, exists": lambda fs, path: fs.exists(path),
    "path, mkdir": lambda fs, path: fs.mkdir(path),
    "path, remove": lambda fs, path: fs.remove(path),
    "path, glob": lambda fs, path: fs.glob("*", path),
    "path, grep": lambda fs, path: fs.grep("x", path),
    "source": lambda fs, path: fs.move(path, "x"),
    "destination": lambda fs, path: fs.move("x", path),
    "destination, upload": lambda fs, path: fs.upload("/dev/null", path),
    "destination, file": lambda fs, path: fs.upload_file("/dev/null", path),
    "source, download": lambda fs, path: fs.download(path, "/dev/null"),
    "source, file": lambda fs, path: fs.download_file(path, "/dev/null"),
}


@pytest.mark.parametrize(("path", "message"), BAD_PATHS)
@pytest.mark.parametrize("call", PATHS)
async def test_a_path_that_is_none_is_named(
    sandbox: Asking, call: str, path: Any, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        await PATHS[call](sandbox.fs, path)
    assert str(caught.value).startswith(call.partition(",")[0])
    assert message in str(caught.value)


@pytest.mark.parametrize("call", PATHS)
@pytest.mark.parametrize("path", ["a", "/a/b", ".", PurePosixPath("a"), Path("a"), "\udcff", "-rf"])
async def test_other_paths_reach_the_backend(sandbox: Asking, call: str, path: Any) -> None:
    with pytest.raises(Asked):
        await PATHS[call](sandbox.fs, path)


WHOLE: list[Any] = [-1, 1.5, "1", True, None, 2**63, math.nan]
LIMITS: list[Any] = [value for value in WHOLE if value is not None]
FROM_ONE: list[Any] = [0, *WHOLE]
NUMBERS: list[tuple[str, Callable[[FileSystem, Any], Awaitable[object]], list[Any]]] = [
    ("offset", lambda fs, value: fs.read_bytes("f", offset=value), WHOLE),
    ("limit", lambda fs, value: fs.read_bytes("f", limit=value), LIMITS),
    ("start", lambda fs, value: fs.read_lines("f", start=value), FROM_ONE),
    ("limit", lambda fs, value: fs.read_lines("f", limit=value), WHOLE),
    ("width", lambda fs, value: fs.read_lines("f", width=value), WHOLE),
    ("depth", lambda fs, value: fs.list("f", depth=value), FROM_ONE),
    ("limit", lambda fs, value: fs.list("f", limit=value), LIMITS),
    ("limit", lambda fs, value: fs.glob("*", limit=value), LIMITS),
    ("context", lambda fs, value: fs.grep("x", context=value), WHOLE),
    ("limit", lambda fs, value: fs.grep("x", limit=value), WHOLE),
]


@pytest.mark.parametrize(("name", "call", "values"), NUMBERS)
async def test_numbers_of_files_have_bounds(
    sandbox: Asking, name: str, call: Callable[[FileSystem, Any], Awaitable[object]], values: Any
) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=rf"^{name}=.*: give a whole number, [01] or more"):
            await call(sandbox.fs, value)
    with pytest.raises(Asked):
        await call(sandbox.fs, 1)


OTHERS: list[tuple[str, Callable[[FileSystem], Awaitable[object]]]] = [
    (r"data: give bytes, not str", lambda fs: fs.write_bytes("f", "text")),  # type: ignore[arg-type]
    (r"expect: give bytes, not int", lambda fs: fs.write_bytes("f", b"", expect=5)),  # type: ignore[arg-type]
    (r"text: give text \(str\), not bytes", lambda fs: fs.write_text("f", b"")),  # type: ignore[arg-type]
    (r"pattern=5: give text", lambda fs: fs.glob(5)),  # type: ignore[arg-type]
    (r"pattern: character 1 is NUL", lambda fs: fs.grep("a\0")),
    (r"glob=5: give text", lambda fs: fs.grep("a", glob=5)),  # type: ignore[arg-type]
    (r"source='': give a path of this machine", lambda fs: fs.upload("", "x")),
    (r"source=5: give a path of this machine", lambda fs: fs.upload_file(5, "x")),  # type: ignore[arg-type]
    (r"destination='a.*': give a path of this machine", lambda fs: fs.download("x", "a\0")),
    (r"ignore='\.git': give a list", lambda fs: fs.upload("/", "x", ignore=".git")),
    (r"ignore\[0\]=5: give text", lambda fs: fs.upload("/", "x", ignore=[5])),  # type: ignore[list-item]
    (r"ignore='!/': give patterns", lambda fs: fs.download("x", "x", ignore=["a", "!/"])),
    (r"links='follow': give 'keep' or", lambda fs: fs.upload("/", "x", links="follow")),  # type: ignore[arg-type]
    (r"links=\[\]: give 'keep' or", lambda fs: fs.download("x", "x", links=[])),  # type: ignore[arg-type]
    (r"on_progress=5: give a function", lambda fs: fs.upload_file("/", "x", on_progress=5)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("message", "call"), OTHERS)
async def test_other_arguments_of_files_are_checked(
    sandbox: Asking, message: str, call: Callable[[FileSystem], Awaitable[object]]
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        await call(sandbox.fs)


COMMANDS: list[tuple[str, dict[str, Any]]] = [
    (r"command\[1\]=1: give text", {"command": ["echo", 1]}),
    (r"command\[0\]=b'echo': give text", {"command": [b"echo"]}),
    (r"command=b'echo': give one string for a shell", {"command": b"echo"}),
    (r"command=None: give one string for a shell", {"command": None}),
    (r"command=\{'a'\}: give one string for a shell", {"command": {"a"}}),
    (r"command=\[\]: give a program", {"command": []}),
    (r"command=\[''\]: give a program", {"command": [""]}),
    (r"command\[1\]: character 1 is NUL", {"command": ["echo", "a\0"]}),
    (r"command: character 0 is NUL", {"command": "\0"}),
    (r"command: character 5 is '\\ud800'", {"command": "echo \ud800"}),
    (r"cwd='': give a path", {"cwd": ""}),
    (r"cwd=5: give a path", {"cwd": 5}),
    (r"cwd='a.*': give a path without NUL", {"cwd": "a\0"}),
    (r"env=\[\]: give a mapping", {"env": []}),
    (r"env: the value of 'A' is of type int; give text", {"env": {"A": 1}}),
    (r"env: the value of 'A' is of type NoneType", {"env": {"A": None}}),
    (r"env: the value of 'A': character 1 is NUL", {"env": {"A": "x\0y"}}),
    (r"env: the value of 'A': character 0 is '\\ud800'", {"env": {"A": "\ud800"}}),
    (r"env: 'A=B' is no name", {"env": {"A=B": "1"}}),
    (r"env: '' is no name", {"env": {"": "1"}}),
    (r"env: 5 is no name", {"env": {5: "1"}}),
    (r"env: the name 'A.*': character 1 is NUL", {"env": {"A\0": "1"}}),
    (r"user=1000: give 'name', 'uid'", {"user": 1000}),
    (r"user='': give 'name', 'uid'", {"user": ""}),
    (r"user='a:': give 'name', 'uid'", {"user": "a:"}),
    (r"user='a:b:c': give 'name', 'uid'", {"user": "a:b:c"}),
    (r"user='4294967295': give 'name', 'uid'", {"user": str(2**32 - 1)}),
    (r"user: character 1 is NUL", {"user": "a\0"}),
    (r"max_output=-5: give a whole number, 0 or more", {"max_output": -5}),
    (r"max_output=1.5: give a whole number, 0 or more", {"max_output": 1.5}),
    (r"max_output=None: give a whole number, 0 or more", {"max_output": None}),
]
OF_EXEC: list[tuple[str, dict[str, Any]]] = [
    (r"timeout=nan: give a number of seconds", {"timeout": math.nan}),
    (r"timeout=-0\.1: give a number of seconds", {"timeout": -0.1}),
    (r"timeout=-inf: give a number of seconds", {"timeout": -math.inf}),
    (r"timeout='5': give a number of seconds", {"timeout": "5"}),
    (r"timeout=True: give a number of seconds", {"timeout": True}),
    (r"stdin: give bytes or text, not int", {"stdin": 5}),
    (r"stdin: character 1 is '\\ud800', which UTF-8 cannot hold; give bytes", {"stdin": "x\ud800"}),
    (r"on_output=5: give a function", {"on_output": 5}),
]


@pytest.mark.parametrize(("message", "options"), COMMANDS + OF_EXEC)
async def test_exec_checks_its_arguments(
    sandbox: Asking, message: str, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        await sandbox.exec(**{"command": "true", **options})
    assert not sandbox.commands


@pytest.mark.parametrize(("message", "options"), COMMANDS)
async def test_start_checks_its_arguments(
    sandbox: Asking, message: str, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        await sandbox.start(**{"command": "true", **options})
    assert not sandbox.commands


async def test_arguments_at_their_bounds_are_taken(sandbox: Asking) -> None:
    await sandbox.start(
        ["a", "", "\udcff"],
        cwd=".",
        env={"über x": "", "\udcff": "\udcff"},
        user="65534:4294967294",
        max_output=0,
    )
    (command,) = sandbox.commands
    assert command.argv == ("a", "", "\udcff")
    assert (command.cwd, command.user, command.keep) == (sandbox.working_dir, "65534:4294967294", 0)


async def test_a_command_without_time_is_not_started(sandbox: Asking) -> None:
    with pytest.raises(ExecTimeout):
        await sandbox.exec("true", timeout=0)
    assert not sandbox.commands


def test_no_limit_is_none_or_infinite() -> None:
    assert check_timeout(math.inf) is None
    assert check_timeout(None) is None
    assert check_timeout(5) == 5.0


@pytest.mark.parametrize("number", [0, -1, 65, 99999, True, 1.5, "TERM", None])
async def test_numbers_of_signals_have_bounds(number: Any) -> None:
    with pytest.raises(ConfigError, match=r"^signal number=.*: give a whole number, 1 to 64"):
        await _asking(Process)().signal(number)


@pytest.mark.parametrize("grace", [-1, math.nan, math.inf, "1", None, True])
async def test_the_grace_of_a_kill_is_a_number_of_seconds(grace: Any) -> None:
    with pytest.raises(ConfigError, match=r"^grace=.*: give a number of seconds, 0 or more"):
        await _asking(Process)().kill(grace=grace)


async def test_only_bytes_are_sent() -> None:
    process: Process = _asking(Process)()
    with pytest.raises(ConfigError, match=r"^data: give bytes, not str"):
        await process.send("text")  # type: ignore[arg-type]
    with pytest.raises(Asked):
        await process.send(memoryview(b"x"))  # type: ignore[arg-type]


@pytest.mark.parametrize("port", [0, -1, 65536, True, 8000.5, "80", None])
async def test_ports_have_bounds(sandbox: Asking, port: Any) -> None:
    with pytest.raises(ConfigError, match=r"^port=.*: give a whole number, 1 to 65535"):
        await sandbox.url(port)


@pytest.mark.parametrize("variables", [{"A": 1}, {"A=B": "x"}, {"A": "x\0"}, {"": "x"}, 5])
def test_variables_of_a_recipe_are_checked_by_the_same_rules(variables: Any) -> None:
    with pytest.raises(ConfigError, match=r"^env_vars"):
        LocalBackend(env_vars=variables)


def test_values_of_variables_are_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        LocalBackend(env_vars={"TOKEN": "secret\0"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("size", [(0, 80), (24, 0), (65536, 80), (24, True), ("24", 80)])
def test_the_size_of_a_terminal_has_bounds(size: Any) -> None:
    with pytest.raises(ConfigError, match=r"^(rows|cols)=.*: give a whole number, 1 to 65535"):
        Pty(*size)


@pytest.mark.parametrize("term", ["", "a\0b", None])
def test_the_kind_of_a_terminal_is_text(term: Any) -> None:
    with pytest.raises(ConfigError, match=r"^term"):
        Pty(term=term)


async def test_a_terminal_is_refused_where_there_is_none(sandbox: Asking) -> None:
    with pytest.raises(Unsupported, match=r"pty=.*it only starts commands with pipes"):
        await sandbox.start("true", pty=Pty())
    with pytest.raises(ConfigError, match="pty=True: give Pty"):
        await sandbox.start("true", pty=True)
    assert not sandbox.commands
