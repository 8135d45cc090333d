"""Steps to a Dockerfile and its context.

A command is written in JSON, which holds any text on one line and in which an engine
looks for no variables. Where it does look for them (ENV, WORKDIR, COPY) they are escaped.
"""

from __future__ import annotations

import json
import re
import shlex
import stat
from typing import TYPE_CHECKING, assert_never

from paddock.errors import ConfigError
from paddock.image import projects
from paddock.image.bundle import (
    Bundle,
    bytes_member,
    directory_member,
    read_member,
    read_tree,
)
from paddock.image.ignore import read_patterns
from paddock.image.steps import (
    AddLocalDir,
    AddLocalFile,
    AptInstall,
    Env,
    FromDockerfile,
    FromRegistry,
    PipInstall,
    PipInstallFromPyproject,
    PipInstallFromRequirements,
    RunCommands,
    Step,
    User,
    UvSync,
    Workdir,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from paddock.image.bundle import Member

__all__ = ["INDEX_VARIABLES", "dockerfile_bundle", "own_ignore_file", "steps_bundle"]

INDEX_VARIABLES = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_INSECURE_HOST",
)
"""Where packages come from on this machine: declared, so that a build may be told."""
ENVIRONMENT = "/opt/environment"
PROJECT = "/opt/project"
NAME = "Dockerfile"
OWN_NAME = ".paddock.Dockerfile"
"""Of a Dockerfile that is not in its context; the engine removes it from what is copied."""
IGNORE = ".dockerignore"
QUOTED = re.compile(r'[\\"$]')
"""What means something between double quotes, and in a word without them."""
BARE = re.compile(r"""[\\"'$]""")


def steps_bundle(base: str, steps: Sequence[Step]) -> Bundle:
    """What a list of steps on an image compiles to. Raises `ConfigError`."""
    compiler = _Compiler()
    for step in steps:
        try:
            compiler.add(step)
        except OSError as error:
            raise _unreadable(step.verb, error) from error
    text = "\n".join([f"FROM {base}", *compiler.lines, ""])
    members = (bytes_member(NAME, text.encode()), *compiler.members)
    return Bundle(text, members, NAME, base)


def dockerfile_bundle(step: FromDockerfile) -> Bundle:
    """Return a Dockerfile and what of its context is not ignored. Raises `ConfigError`."""
    source = own_ignore_file(step.path)
    if not source.exists():
        source = step.context / IGNORE
    try:
        text = _read_text(step.path)
        ignore = _read_text(source) if source.exists() else ""
        try:
            return _with_context(text, step, ignore)
        except ConfigError as error:
            raise ConfigError(f"from_dockerfile: {source}: {error}") from None
    except OSError as error:
        raise _unreadable(step.verb, error) from error


def _read_text(path: Path) -> str:
    """Return the text of a file. Raise `ConfigError` for what is not UTF-8, and OSError."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"from_dockerfile: {path} is not text in UTF-8 ({error})") from error


def own_ignore_file(path: Path) -> Path:
    """Return where the ignore file that belongs to one Dockerfile would be."""
    return path.with_name(f"{path.name}{IGNORE}")


def _with_context(text: str, step: FromDockerfile, ignore: str) -> Bundle:
    """The classic builder wants the Dockerfile and .dockerignore, ignored or not; it then removes
    those that are ignored from the context itself."""
    tree = read_tree("", step.context, read_patterns(ignore))
    members = {member.name: member for member in tree}
    theirs = frozenset(members)
    if step.path.is_relative_to(step.context):
        name = step.path.relative_to(step.context).as_posix()
        if ignore:
            members.setdefault(IGNORE, bytes_member(IGNORE, ignore.encode()))
    else:
        name = OWN_NAME
        members[IGNORE] = bytes_member(IGNORE, f"{ignore or IGNORE}\n{OWN_NAME}\n".encode())
    members.setdefault(name, bytes_member(name, text.encode()))
    return Bundle(text, tuple(members.values()), name, origin=step, ignored=members.keys() - theirs)


def _unreadable(verb: str, error: OSError) -> ConfigError:
    return ConfigError(f"{verb}: {error.filename}: {error.strerror}")


class _Compiler:
    """Gathers the lines of a Dockerfile and the members of its context."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.members: list[Member] = []

    def add(self, step: Step) -> None:
        match step:
            case FromRegistry() | FromDockerfile():
                raise ConfigError(f"{step.verb}: an image begins with it, and only once")
            case AptInstall():
                self._shell(_apt_install(step.packages))
            case RunCommands():
                for command in step.commands:
                    self._shell(command)
            case Env():
                self.lines += [
                    f"ENV {key}={_quoted(value)}" for key, value in sorted(step.variables.items())
                ]
            case Workdir():
                self.lines.append(f"WORKDIR {_quoted(step.path)}")
            case User():
                self.lines.append(f"USER {step.name}")
            case AddLocalFile() | AddLocalDir():
                self._add_local(step)
            case PipInstall() | PipInstallFromRequirements() | PipInstallFromPyproject() | UvSync():
                self._install(step)
            case _:
                assert_never(step)

    def _add_local(self, step: AddLocalFile | AddLocalDir) -> None:
        place = self._place()
        if isinstance(step, AddLocalDir):
            # An empty directory, too, is copied only if it is there.
            tree = list(read_tree(f"{place}/", step.local, step.ignore))
            self.members += tree or [directory_member(place)]
            self.lines.append(_copy(f"{place}/", step.remote.rstrip("/") + "/"))
            return
        remote = step.remote + step.local.name if step.remote.endswith("/") else step.remote
        self._file(place, step.local, remote)

    def _install(
        self, step: PipInstall | PipInstallFromRequirements | PipInstallFromPyproject | UvSync
    ) -> None:
        self._declare(INDEX_VARIABLES)
        match step:
            case PipInstall():
                self._pip(step.options.words, "--", *step.packages)
            case PipInstallFromPyproject():
                self._pip(step.options.words, "--", *projects.dependencies(step))
            case PipInstallFromRequirements():
                projects.check_requirements(step)
                remote = f"/tmp/paddock-{self._place()}.txt"
                self._file(self._place(), step.path, remote)
                self._pip(step.options.words, "-r", remote)
            case UvSync():
                self._uv_sync(step)

    def _uv_sync(self, step: UvSync) -> None:
        for name in ("pyproject.toml", "uv.lock"):
            self._file(self._place(), step.path / name, f"{PROJECT}/{name}")
        wanted = [f"--extra={name}" for name in step.extras]
        wanted += [f"--group={name}" for name in step.groups]
        sync = shlex.join(
            ["uv", "sync", "--frozen", "--no-cache", "--no-install-workspace", *wanted]
        )
        self._shell(
            "command -v uv >/dev/null || python3 -m pip install --no-cache-dir uv; "
            f"cd {PROJECT} && UV_PROJECT_ENVIRONMENT={ENVIRONMENT} {sync}"
        )
        self.lines.append(f'ENV PATH="{ENVIRONMENT}/bin:$PATH"')

    def _file(self, place: str, local: Path, remote: str) -> None:
        member = read_member(place, local, follow=True)
        if member is None or not stat.S_ISREG(member.mode):
            raise IsADirectoryError(21, "not a file", str(local))
        self.members.append(member)
        self.lines.append(_copy(place, remote))

    def _place(self) -> str:
        """A name in the context that no engine takes for a pattern."""
        return f"files/{len(self.lines)}"

    def _declare(self, variables: Iterable[str]) -> None:
        lines = [f"ARG {name}" for name in variables]
        self.lines += [line for line in lines if line not in self.lines]

    def _pip(self, options: Iterable[str], *words: str) -> None:
        install = ("python3", "-m", "pip", "install", "--no-cache-dir")
        self._run([*install, *options, *words])

    def _shell(self, command: str) -> None:
        self._run(["/bin/sh", "-c", command])

    def _run(self, argv: Sequence[str]) -> None:
        self.lines.append(f"RUN {json.dumps(argv, ensure_ascii=False)}")


def _apt_install(packages: Iterable[str]) -> str:
    return (
        "apt-get update && DEBIAN_FRONTEND=noninteractive "
        f"apt-get install -y --no-install-recommends {shlex.join(packages)} && "
        "apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin"
    )


def _copy(name: str, remote: str) -> str:
    return f"COPY {json.dumps([name, BARE.sub(_escape, remote)], ensure_ascii=False)}"


def _quoted(value: str) -> str:
    return f'"{QUOTED.sub(_escape, value)}"'


def _escape(match: re.Match[str]) -> str:
    return f"\\{match[0]}"
