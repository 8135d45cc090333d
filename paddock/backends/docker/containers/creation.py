"""Creates containers, whose working directory belongs to the user that works there.

Whether the engine makes the directory or the image contains it, it is root's before that.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from paddock.backends.docker.containers.control import remove_container
from paddock.backends.docker.containers.posture import binds_of_volume, weaknesses
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.images.store import FORKS
from paddock.backends.users import UNKNOWN_TO_ENGINE, unknown_user
from paddock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from docker import APIClient

    from paddock.backends.docker.containers.plan import ContainerPlan
    from paddock.backends.docker.engine.client import Engine

__all__ = ["create_container", "start_container"]

USERS = "/etc/passwd"
NOT_FOUND = 404


async def create_container(
    engine: Engine, plan: ContainerPlan, *, entrypoint: Sequence[str] | None = None
) -> ContainerPlan:
    """Create what is planned, with another first process if one is given; return the whole plan.

    Raises `EngineError`; then a container may be left, as it may if cancelled.
    """
    if plan.hardening != "none":
        await _check_volumes(engine, plan)
    container = await _create(engine, plan, entrypoint)
    if plan.ids is None:
        plan = replace(plan, ids=await _look_up(engine, plan))
        if not plan.keeps_files:  # the owner of files in memory is set at creation
            await remove_container(engine, container)
            container = await _create(engine, plan, entrypoint)
    given = plan.working_dir == "/" or plan.image.startswith(f"{FORKS}:")
    if plan.keeps_files and plan.ids is not None and not plan.is_root and not given:
        # A fork's directory is as it was; the root is left alone.
        what = f"giving {plan.working_dir} to {plan.user}"
        await engine.call(what, _give, engine.client, plan, plan.ids)
    return replace(plan, container=container)


async def start_container(engine: Engine, plan: ContainerPlan) -> None:
    """Start what was created. Raise `EngineError`, and `ConfigError` for an unknown user."""
    try:
        await engine.call(f"starting {plan.name}", engine.client.start, plan.container)
    except EngineError as error:
        if plan.user and UNKNOWN_TO_ENGINE.search(str(error)):
            raise unknown_user(plan.user) from None
        raise


async def _create(engine: Engine, plan: ContainerPlan, entrypoint: Sequence[str] | None) -> str:
    config = plan.config(engine.client)
    if entrypoint is not None:
        config["Entrypoint"] = list(entrypoint)
    create = engine.client.create_container_from_config
    what = f"creating a container of {plan.image}"
    made = await engine.call(what, create, config, name=plan.name, platform=plan.platform)
    if plan.options.others:
        await _check_others(engine, str(made["Id"]), plan)
    return str(made["Id"])


async def _check_others(engine: Engine, container: str, plan: ContainerPlan) -> None:
    """Raise `ConfigError` if options that Paddock does not know were ignored by the engine, or
    have lowered the hardening."""
    what = "looking at a container's options"
    found = await engine.call(what, engine.client.inspect_container, container)
    known = {name.lower() for name in found["HostConfig"]}
    for name, value in plan.options.others.items():
        if value and name.lower() not in known:
            raise ConfigError(f"engine_options: {name}: this engine does not have it")
    if plan.hardening != "none" and (weak := weaknesses(found["HostConfig"])):
        raise ConfigError(
            f"engine_options: the container would have {'; '.join(weak)}; give up isolation with "
            "hardening='none' if that is meant"
        )


async def _check_volumes(engine: Engine, plan: ContainerPlan) -> None:
    """Raise `ConfigError` for a volume that is a directory of the engine's machine."""
    for name, *_ in plan.options.volumes:
        try:
            what = f"looking at the volume {name}"
            found = await engine.call(what, engine.client.inspect_volume, name)
        except EngineError as error:
            if error.status != NOT_FOUND:
                raise
            continue
        if path := binds_of_volume(found):
            raise ConfigError(
                f"volumes: {name} is {path} of the engine's machine; give up isolation with "
                "hardening='none' if that is meant"
            )


async def _look_up(engine: Engine, plan: ContainerPlan) -> tuple[int, int] | None:
    """Return the ids of the plan's user from the image's own list; None for an unknown user."""
    what = f"looking for the user {plan.user}"
    try:
        text = await engine.call(what, _read, engine.client, plan.name, USERS)
    except EngineError as error:
        if error.status == NOT_FOUND:
            return None
        raise
    name = (plan.user or "").partition(":")[0]
    for line in text.splitlines():
        known, _, uid, gid, *_ = [*line.split(":"), "", "", ""]
        if known == name and uid.isdecimal() and gid.isdecimal():
            return int(uid), int(gid)
    return None


def _read(client: APIClient, container: str, path: str) -> str:
    """Return the text of a file; an empty one for anything but a plain file."""
    pieces, _ = client.get_archive(container, path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        member = archive.next()
        if member is None or not member.isreg():
            return ""
        file = archive.extractfile(member)
        assert file is not None
        return file.read().decode(errors="replace")


def _give(client: APIClient, plan: ContainerPlan, ids: tuple[int, int]) -> None:
    """Make the working directory its user's, unless everybody can write there."""
    path = PurePosixPath(plan.working_dir)
    mode = _mode(client, plan.name, path)
    if mode & 0o002:
        return
    info = tarfile.TarInfo(path.name)
    info.type, info.mode, (info.uid, info.gid) = tarfile.DIRTYPE, mode | 0o700, ids
    client.put_archive(plan.name, str(path.parent), info.tobuf() + bytes(2 * tarfile.BLOCKSIZE))


def _mode(client: APIClient, container: str, path: PurePosixPath) -> int:
    """Return a directory's permissions; 0o777 for a link, which is left as it is."""
    from docker.utils import decode_json_header

    url = f"{client.base_url}/v{client.api_version}/containers/{container}/archive"
    told = client.head(url, params={"path": str(path)}, timeout=client.timeout)
    told.raise_for_status()
    found: dict[str, Any] = decode_json_header(told.headers["X-Docker-Container-Path-Stat"])
    return 0o777 if found["linkTarget"] else int(found["mode"]) & 0o777
