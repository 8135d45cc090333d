"""Paddock with what it needs, carried into a sandbox that has the same Python and not Paddock."""

from __future__ import annotations

import asyncio
import re
import shutil
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import paddock
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from paddock.sandbox import Sandbox

__all__ = ["SERVICES", "carry"]

SERVICES = frozenset({"anthropic", "openai"})
"""Packages of the list that only their agents need. They are the larger half of it."""

NAME = re.compile(r"[A-Za-z0-9._-]+")
FOLDER = ".paddock-inside"
CHECK_TIMEOUT = 60.0
"""Seconds for Python to say what it is."""
ABI = "import sysconfig as s; print(s.get_config_var('SOABI'), s.get_platform())"
UNWANTED = shutil.ignore_patterns("__pycache__", "*.pyi", "tests", "*.dist-info")


async def carry(sandbox: Sandbox, services: Collection[str]) -> str:
    """Upload what ``paddock serve`` needs, with the packages of these services, out of `SERVICES`.

    Return the directory, for ``PYTHONPATH``.

    Raise `ConfigError` if the sandbox has no Python that can run it.
    """
    own = f"{sysconfig.get_config_var('SOABI')} {sysconfig.get_platform()}"
    found = await sandbox.exec(["python3", "-c", ABI], timeout=CHECK_TIMEOUT)
    if found.stdout.strip() != own:
        raise ConfigError(
            "Paddock is not installed in the sandbox, and its Python is not that of this machine "
            f"({found.stdout.strip() or 'there is none'}, not {own}): use an image that has "
            "Paddock, such as paddock:agent, or say by command=[...] how it is run"
        )
    base = await sandbox.exec("cd && pwd", check=True)
    target = "-".join([f"{base.stdout.strip()}/{FOLDER}", *sorted(services)])
    if not await sandbox.fs.exists(target):
        with tempfile.TemporaryDirectory() as folder:
            await asyncio.to_thread(_collect, Path(folder), SERVICES.difference(services))
            await sandbox.fs.upload(folder, target, ignore=())
    return target


def _collect(folder: Path, without: Collection[str]) -> None:
    """Copy the package and the distributions that it needs; blocks."""
    shutil.copytree(Path(paddock.__file__).parent, folder / "paddock", ignore=UNWANTED)
    for path in Path(paddock.__file__).parent.glob("*.pyi"):
        shutil.copy(path, folder / "paddock")
    for distribution in _needed(without):
        for file in distribution.files or ():
            source, top = Path(str(distribution.locate_file(file))), file.parts[0]
            if top == ".." or file.suffix == ".pyc" or not source.is_file():
                continue
            target = folder / Path(*file.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def _needed(without: Collection[str]) -> Iterator[metadata.Distribution]:
    """Yield the distributions of the list of requirements, and those that they need."""
    waiting, known = [name for name in _listed() if name not in without], set[str]()
    while waiting:
        name = waiting.pop()
        if _folded(name) in known:
            continue
        known.add(_folded(name))
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # optional, or for another Python
        yield found
        waiting += [
            match[0]
            for text in found.requires or ()
            if "extra ==" not in text and (match := NAME.match(text)) is not None
        ]


def _listed() -> Iterator[str]:
    package = Path(paddock.__file__).parent
    installed = package / "images"
    folder = installed if installed.is_dir() else package.parent / "images"
    for line in (folder / "agent" / "requirements.txt").read_text().splitlines():
        if (match := NAME.match(line)) is not None:
            yield match[0]


def _folded(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
