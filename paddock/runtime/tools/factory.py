"""Which tools an agent gets: decided by its profile, here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddock.runtime.permissions.profile import (
    DatabaseMode,
    FileWriteMode,
    ShellFence,
    ShellMode,
    load_profile,
)
from paddock.runtime.tools.bash import BashHandler
from paddock.runtime.tools.delegate import DelegateHandler
from paddock.runtime.tools.edit import EditHandler
from paddock.runtime.tools.excel import ReadExcelHandler, openpyxl_is_installed
from paddock.runtime.tools.files import ListHandler, ReadHandler, WriteHandler
from paddock.runtime.tools.registry import ToolRegistry
from paddock.runtime.tools.search import GlobHandler, GrepHandler
from paddock.sandbox import Fence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from paddock.runtime.permissions.profile import PermissionProfile
    from paddock.runtime.tools.base import ToolHandler
    from paddock.runtime.tools.sql.config import DatabaseConfig

__all__ = ["build_registry"]


def build_registry(
    profile: str | Path | PermissionProfile | None = None,
    *,
    databases: Mapping[str, DatabaseConfig] | None = None,
    placed: bool = False,
) -> ToolRegistry:
    """The registry of `profile` (see `load_profile`): its tools, and its rules of approval.

    With `databases` (see `parse_databases`) there are tools for these. If `placed`, somebody
    said where the agent works, and the profile's `shell_working_dir` does not count.
    """
    resolved = load_profile(profile)
    shell_dir = None if placed else resolved.shell_working_dir
    return ToolRegistry(_handlers(resolved, shell_dir, databases or {}), profile=resolved)


def _handlers(
    profile: PermissionProfile, shell_dir: str | None, databases: Mapping[str, DatabaseConfig]
) -> Iterator[ToolHandler]:
    yield BashHandler(
        restricted=profile.shell is ShellMode.RESTRICTED,
        fence=(
            Fence(network=profile.shell_network)
            if profile.shell_fence is ShellFence.LANDLOCK
            else None
        ),
        timeout=profile.shell_timeout,
        working_dir=shell_dir,
    )
    if profile.bash_only:
        return
    yield ReadHandler()
    yield ListHandler()
    yield GlobHandler()
    yield GrepHandler()
    if profile.file_write is not FileWriteMode.OFF:
        yield WriteHandler(create_only=profile.file_write is FileWriteMode.CREATE_ONLY)
    if profile.file_write is FileWriteMode.FULL:
        yield EditHandler()
        if profile.shell is ShellMode.UNRESTRICTED:  # an agent that may do anything may delegate it
            yield DelegateHandler()
    if openpyxl_is_installed():
        yield ReadExcelHandler()
    if databases:
        from paddock.runtime.tools.sql.handler import database_handlers  # many have none

        yield from database_handlers(
            databases, mutations=profile.database is DatabaseMode.MUTATIONS
        )
