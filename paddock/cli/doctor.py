"""``paddock doctor``: what this machine can do, and what to do about what it cannot."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from rich.table import Table
from rich.text import Text

from paddock.cli import options
from paddock.cli.errors import explain
from paddock.cli.tables import table_console
from paddock.cli.text import plain
from paddock.errors import PaddockError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paddock.backends.isolation.levels import Enforced, Level

__all__ = ["Finding", "doctor"]

Status = Literal["ok", "partly", "missing"]

_MARKS: dict[Status, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "partly": ("!", "yellow"),
    "missing": ("✗", "red"),
}

_FENCES = {
    "bubblewrap": "no files, processes, sockets or network of this machine, but its system "
    "directories read-only",
    "landlock": "no files of this machine but its system directories, read-only",
}

FENCE = "restricted shell's fence"
FENCE_TIMEOUT = 10.0
"""Seconds for `true` to end in a sandbox that is there: it takes milliseconds."""
LANDLOCK_KERNEL = (5, 13)
PROGRAM_TIMEOUT = 20.0
"""Seconds for podman to say its version, or for a host to answer over a slow line."""
ENGINE_TIMEOUT = 5
"""Seconds for an engine to say its version: one that is busy answers within one."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `advice` says what to do, empty where nothing is to be done."""

    name: str
    status: Status
    detail: str
    advice: str = ""


def doctor(as_json: options.AsJson = False) -> None:
    """Say what this machine can do: isolation, engines, SDKs, keys.

    Each line that is not well comes with what to do about it. The exit code is 0
    whatever is found.
    """
    findings = list(examine())
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
        return
    table_console().print(_table(findings))


def examine() -> Iterator[Finding]:
    """Look at everything, in the order in which it is shown."""
    yield _python()
    yield from _local()
    yield _ripgrep()
    yield from _docker()
    yield _podman()
    yield _ssh()
    yield _distribution("daytona", "Daytona SDK", install="paddock[daytona]")
    yield _fence("Daytona", "not tried: if its machines have Landlock; each command says if not")
    yield _key("DAYTONA_API_KEY", "sandboxes in Daytona")
    yield _project()
    yield _distribution("openai", "OpenAI client", install="openai")
    yield _key("OPENAI_API_KEY", "models of OpenAI, or of any service that speaks its protocol")
    yield _distribution("anthropic", "Anthropic client", install="paddock[anthropic]")
    yield _key("ANTHROPIC_API_KEY", "models of Anthropic")


def _table(findings: list[Finding]) -> Table:
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        mark, colour = _MARKS[finding.status]
        text = Text(plain(finding.detail))
        if finding.advice:
            text.append(f"\n→ {plain(finding.advice)}", style="yellow")
        table.add_row(Text(mark, style=colour), Text(finding.name, style="bold"), text)
    return table


def _python() -> Finding:
    detail = f"{platform.python_version()} on {platform.system()} {platform.release()}"
    if platform.system() == "Linux":
        return Finding(name="Python", status="ok", detail=detail)
    return Finding(
        name="Python",
        status="partly",
        detail=detail,
        advice="local sandboxes are isolated on Linux only; use a container backend here",
    )


def _local() -> Iterator[Finding]:
    """Local isolation, and whether a command in a local sandbox can be fenced."""
    from paddock.backends.local import probe

    try:
        found = asyncio.run(probe())
    except (PaddockError, OSError) as error:
        advice = "nothing is known yet; try again"
        for name in ("local isolation", f"{FENCE}, local"):
            yield Finding(name=name, status="missing", detail=explain(error), advice=advice)
        return
    yield _isolation(found)
    try:
        asyncio.run(_run_fenced(found.level))
    except (PaddockError, OSError) as error:
        yield _no_fence("local", explain(error))
    else:
        yield _fence("local", "Landlock: a command that was tried was fenced")


async def _run_fenced(level: Level) -> None:
    from paddock import Fence, LocalBackend

    async with LocalBackend(isolation=level).sandbox() as sandbox:
        await sandbox.exec("true", fence=Fence(), timeout=FENCE_TIMEOUT)


def _fence(backend: str, detail: str) -> Finding:
    return Finding(name=f"{FENCE}, {backend}", status="ok", detail=detail)


def _no_fence(backend: str, reason: str) -> Finding:
    return Finding(
        name=f"{FENCE}, {backend}",
        status="partly",
        detail=f"none: {reason}; bash of a restricted profile is refused",
        advice="`shell: {fence: allow-list}` in a profile accepts a weaker one; see "
        "docs/profiles.md",
    )


def _isolation(found: Enforced) -> Finding:
    """The level that `isolation="auto"` means here, what it leaves open, and what to install."""
    from paddock.backends.isolation.levels import CHOOSE_NONE

    name = "local isolation"
    if found.level == "none":
        advice = "; ".join(filter(None, (found.hint, "use a container backend", CHOOSE_NONE)))
        return Finding(name=name, status="missing", detail=f"none: {found.reason}", advice=advice)
    limits = ", ".join(sorted(limit.removeprefix("limit_") for limit in found.limits)) or "none"
    detail = f"{_FENCES[found.level]}; seccomp; limits available: {limits}"
    if found.unlimited:
        detail += f" (no more, as {found.unlimited})"
    if found.level == "landlock":
        detail = f"Landlock (ABI {found.abi}): {detail}. Still open: {found.reachable}"
        advice = f"for more isolation, {found.hint}: {found.reason}"
        return Finding(name=name, status="partly", detail=detail, advice=advice)
    return Finding(name=name, status="ok", detail=f"bubblewrap: {detail}")


def _ripgrep() -> Finding:
    if path := shutil.which("rg"):
        return Finding(name="ripgrep", status="ok", detail=path)
    return Finding(
        name="ripgrep",
        status="partly",
        detail="not found; searches use the slower built-in one",
        advice="install it: apt-get install ripgrep, or brew install ripgrep",
    )


def _docker() -> Iterator[Finding]:
    """The engine that sandboxes would be made on, and whether its kernel can fence a command."""
    from paddock.backends.docker import DockerBackend

    try:
        found = asyncio.run(DockerBackend().engine_found(deadline=ENGINE_TIMEOUT))
    except PaddockError as error:
        yield Finding(
            name="Docker",
            status="missing",
            detail=str(error),
            advice="start Docker, or set DOCKER_HOST; local sandboxes do without",
        )
        return
    yield Finding(name="Docker", status="ok", detail=f"engine {found.version} at {found.url}")
    release = re.match(r"(\d+)\.(\d+)", found.kernel)
    if release and (int(release[1]), int(release[2])) < LANDLOCK_KERNEL:
        yield _no_fence("Docker", f"Landlock takes Linux 5.13, the engine's is {found.kernel}")
    else:
        kernel = f" (Linux {found.kernel})" if found.kernel else ""
        yield _fence(
            "Docker",
            f"not tried: if the engine's kernel{kernel} has Landlock, and the image Python 3.8 or "
            "newer; each command says if not",
        )


def _podman() -> Finding:
    """Whether Podman works for this user, and what it can bound."""
    asked = "{{.Version.Version}}: {{.Host.CgroupControllers}}"
    command = ["podman", "info", "--format", asked]
    try:
        told = subprocess.run(
            command,
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=PROGRAM_TIMEOUT,
        )
    except FileNotFoundError:
        advice = "install it: apt-get install podman; other backends do without"
        detail = "podman is not installed"
        return Finding(name="Podman", status="missing", detail=detail, advice=advice)
    except (OSError, subprocess.SubprocessError) as error:
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
        detail = said.strip() or str(error)
        advice = "see that `podman info` works"
        return Finding(name="Podman", status="missing", detail=detail, advice=advice)
    version, _, limits = told.stdout.strip().partition(": ")
    detail = f"{version}; limits by control groups: {limits.strip('[]') or 'none'}"
    return Finding(name="Podman", status="ok", detail=detail)


def _ssh() -> Finding:
    """Whether the host that sandboxes would be made on answers, if one is named."""
    from paddock.backends.ssh import SshBackend

    host = os.environ.get("PADDOCK_SSH_HOST")
    if not host:
        detail = "not tried: PADDOCK_SSH_HOST names no host"
        return Finding(name="SSH", status="ok", detail=detail)
    try:
        asyncio.run(asyncio.wait_for(SshBackend().list(), PROGRAM_TIMEOUT))
    except (PaddockError, TimeoutError) as error:
        detail = f"{host}: {explain(error) or f'no answer within {PROGRAM_TIMEOUT:g} s'}"
        advice = f"see that `ssh {host} python3 --version` works without a question"
        return Finding(name="SSH", status="missing", detail=detail, advice=advice)
    return Finding(name="SSH", status="ok", detail=f"{host} answers, and has Python")


def _project() -> Finding:
    """The project file that commands in this directory use."""
    from paddock.project import find_project

    try:
        project = find_project()
    except (PaddockError, OSError) as error:
        return Finding(
            name="project file",
            status="missing",
            detail=explain(error),
            advice="mend it, or leave it aside with --no-project",
        )
    if project is None:
        return Finding(name="project file", status="ok", detail="none, here or above")
    beginning = project.snapshot or project.dockerfile or project.image
    begins = f"; sandboxes begin with {beginning}" if beginning else ""
    return Finding(name="project file", status="ok", detail=f"{project.path}{begins}")


def _distribution(package: str, name: str, *, install: str) -> Finding:
    try:
        return Finding(name=name, status="ok", detail=f"{package} {metadata.version(package)}")
    except metadata.PackageNotFoundError:
        return Finding(
            name=name,
            status="missing",
            detail=f"{package} is not installed",
            advice=f"pip install '{install}'",
        )


def _key(variable: str, opens: str) -> Finding:
    if os.environ.get(variable):
        return Finding(name=variable, status="ok", detail="set")
    return Finding(
        name=variable,
        status="missing",
        detail="not set",
        advice=f"set it for {opens}; `paddock demo` does without",
    )
