"""A Debian from its packages, for engines that reach no registry.

mmdebstrap makes the root and writes it as a tar stream, which goes to the engine as it
comes; only mmdebstrap's own working files take that much space on this machine's disk.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock._concurrency import finish
from paddock.backends.docker.images import recipes
from paddock.backends.docker.images.operations import import_root
from paddock.backends.docker.images.programs import end_group
from paddock.backends.images import Output, Step
from paddock.errors import BuildFailed, ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.images import ImageProgressCallback

__all__ = ["DebianSource", "import_debian"]

GRACE = 30.0
"""Seconds for mmdebstrap to unmount and remove its work after SIGTERM, before SIGKILL."""
PIECE = 1 << 20
LAST_LINES = 40
INFORMATION = "I: "
"""The beginning of mmdebstrap's lines about its next step."""
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
UNWANTED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")
WANTED = "/usr/share/doc/*/copyright"
TIDY = 'rm -f "$1/etc/hostname" "$1/etc/resolv.conf"'
"""Both come from this machine; an engine puts its own into every container."""
NO_CACHE = (
    'rm -f "$1"/var/cache/apt/*.bin; '
    'echo \'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";\' '
    '>"$1/etc/apt/apt.conf.d/90no-cache"'
)
"""Otherwise apt keeps a cache of 80 MB in every layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianSource:
    """A Debian release, and the mirror to take it from (by default Debian's own)."""

    suite: str = recipes.DEBIAN_SUITE
    mirror: str | None = None

    def __post_init__(self) -> None:
        if not WORD.fullmatch(self.suite):
            raise ConfigError(f"suite={self.suite!r} is not the name of a Debian release")
        if self.mirror is not None and "://" not in self.mirror:
            raise ConfigError(f"mirror={self.mirror!r} is not the address of a mirror")
        if self.mirror is not None and "@" in self.mirror.partition("://")[2].partition("/")[0]:
            raise ConfigError(
                "mirror: the address would be kept in the image with its password; "
                "give it without, and the password in /etc/apt/auth.conf"
            )


async def import_debian(engine: Engine, source: DebianSource, tell: ImageProgressCallback) -> str:
    """Make ``paddock:debian`` with all that ``paddock:base`` is made of; return its name.

    Raises `ConfigError` where mmdebstrap is not installed, `BuildFailed` when it fails.
    If cancelled, mmdebstrap ends and nothing is imported.
    """
    program = shutil.which("mmdebstrap")
    if program is None:
        raise ConfigError(
            "mmdebstrap is not installed, and makes the base image from Debian packages; "
            "install it: apt-get install mmdebstrap (on others than Debian also its keyring)"
        )
    packages = await asyncio.to_thread(recipes.base_packages)
    archive = _archive([program, *_options(source, packages)], tell)
    labels = {recipes.LABEL: "debian"}
    await import_root(engine, archive, tag=recipes.DEBIAN, labels=labels, tell=tell)
    return recipes.DEBIAN


def _options(source: DebianSource, packages: list[str]) -> list[str]:
    unwanted = [f"--dpkgopt=path-exclude={pattern}" for pattern in UNWANTED]
    return [
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--variant=minbase",
        "--format=tar",
        f"--include={','.join(packages)}",
        "--dpkgopt=force-unsafe-io",
        *unwanted,
        f"--dpkgopt=path-include={WANTED}",
        f"--customize-hook={TIDY}",
        f"--customize-hook={NO_CACHE}",
        source.suite,
        "-",
        *([source.mirror] if source.mirror else []),
    ]


async def _archive(command: list[str], tell: ImageProgressCallback) -> AsyncGenerator[bytes]:
    """Yield the program's stdout. Raise `BuildFailed` at the end if it failed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**_environment(), "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    lines: deque[str] = deque(maxlen=LAST_LINES)
    listener = asyncio.create_task(_listen(process.stderr, lines, tell))
    try:
        while data := await process.stdout.read(PIECE):
            yield data
        await listener
        if await process.wait():
            raise _failed(process.returncode, lines)
    finally:
        await finish(_end(process, listener))


def _environment() -> dict[str, str]:
    """Return what mmdebstrap and apt need of ours: packages' scripts have the same environment."""
    wanted = ("PATH", "HOME", "TMPDIR", "APT_CONFIG", "SOURCE_DATE_EPOCH")
    return {
        name: value
        for name, value in os.environ.items()
        if name in wanted or name.lower().endswith("_proxy")
    }


async def _listen(
    stream: asyncio.StreamReader, lines: deque[str], tell: ImageProgressCallback
) -> None:
    number = 0
    async for line in stream:
        text = line.decode(errors="replace").rstrip()
        lines.append(text)
        if text.startswith(INFORMATION):
            number += 1
            told = text.removeprefix(INFORMATION)
            tell(Step(image=recipes.DEBIAN, number=number, total=None, instruction=told))
        else:
            tell(Output(image=recipes.DEBIAN, line=text))


async def _end(process: asyncio.subprocess.Process, listener: asyncio.Task[None]) -> None:
    """SIGTERM lets mmdebstrap unmount what it has mounted; its children are in its session."""
    listener.cancel()
    await asyncio.wait([listener])
    await end_group(process, GRACE)


def _failed(code: int | None, lines: deque[str]) -> BuildFailed:
    hint = None
    if os.geteuid() != 0:
        hint = (
            "as another user than root mmdebstrap needs user namespaces, and a range of ids "
            "in /etc/subuid and /etc/subgid; or run this as root"
        )
    return BuildFailed(
        recipes.DEBIAN,
        step="mmdebstrap",
        reason=f"it ended with exit code {code}",
        output="\n".join(lines),
        hint=hint,
    )
