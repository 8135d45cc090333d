"""The recipe of a sandbox, from the options of a command and the file of a project.

An option goes before what the file says. Neither is ever dropped: what the backend has no
use for is an error before anything is made. Backends are known by their fields alone.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

import typer

from paddock.backends.uv import install_command, require_command
from paddock.cli.options import parse_upload, parse_variable, project_file
from paddock.cli.trusting import require_trusted_setup
from paddock.errors import ConfigError, Unsupported
from paddock.network import Allow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from paddock.backends.base import Backend
    from paddock.cli.sandbox_options import SandboxOptions
    from paddock.project import Project
    from paddock.transfers import Links

__all__ = ["make_backend", "make_trusted_backend", "vary_backend"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a sandbox begins with: `option` asked for it, `field` of the backend takes it."""

    option: str
    field: str
    value: Any


def make_trusted_backend(
    asked: SandboxOptions, *, secrets: Mapping[str, str] | None = None
) -> Backend:
    """Return the recipe of the options and of the project file that they read.

    Raise as `make_backend` and `require_trusted_setup`.
    """
    project = project_file(asked.project)
    recipe = make_backend(asked, project=project, secrets=secrets)
    require_trusted_setup(project, recipe, trust=asked.trust)
    return recipe


def make_backend(
    asked: SandboxOptions,
    *,
    project: Project | None = None,
    secrets: Mapping[str, str] | None = None,
) -> Backend:
    """The recipe that the options describe, and `project` where they say nothing.

    Where they name no backend it is daytona's for a snapshot or a Dockerfile, else local.

    Raises `typer.BadParameter` for a malformed option, `ConfigError` for an unknown
    backend and for what the project's file says and the backend cannot do, `Unsupported`
    for such an option.
    """
    from paddock.backends.base import get_backend

    beginning = _begun(asked)
    abroad = beginning is not None and beginning.option != "image"
    kind = get_backend(asked.backend or ("daytona" if abroad else "local"))
    given = _given(kind, asked, beginning)
    if project is not None:
        given = _completed(kind, given, project, begun=beginning is not None)
    if secrets:
        given["secrets"] = secrets
    return _finished(kind(**given), asked, project)


def vary_backend(recipe: Backend, asked: SandboxOptions) -> Backend:
    """Return `recipe` with the options' values instead of its own; variables join its own.

    Raises as `make_backend` does.
    """
    beginning = _begun(asked)
    given = _given(type(recipe), asked, beginning)
    if "env_vars" in given:
        given["env_vars"] = {**recipe.env_vars, **given["env_vars"]}
    if beginning is not None:  # instead of an image or a snapshot
        given = {**_nothing_begun(type(recipe)), **given}
    return _finished(dataclasses.replace(recipe, **given), asked)


def _finished(recipe: Backend, asked: SandboxOptions, project: Project | None = None) -> Backend:
    """Return `recipe` with what the options and the project's file say of uploads, and without
    set-up if the options say so.

    Patterns join those that the recipe has.
    """
    ignore, gitignore, links = asked.ignore, asked.gitignore, asked.links
    if not recipe.uploads and (ignore or gitignore is not None or links is not None):
        raise typer.BadParameter(
            "--ignore, --gitignore and --links are about uploaded trees, and nothing is "
            "uploaded; say what with --upload"
        )
    own = () if project is None else project.upload_ignore
    by_file = recipe.upload_gitignore or (project is not None and project.upload_gitignore)
    return dataclasses.replace(
        recipe,
        upload_ignore=[*recipe.upload_ignore, *own, *(ignore or ())],
        upload_gitignore=by_file if gitignore is None else gitignore,
        upload_links=cast("Links", links) if links else recipe.upload_links,
        setup=() if asked.no_setup else recipe.setup,
    )


def _nothing_begun(kind: type[Backend]) -> dict[str, Any]:
    fields = dataclasses.fields(kind)
    return {each.name: each.default for each in fields if each.name in ("image", "snapshot")}


def _given(
    kind: type[Backend], asked: SandboxOptions, beginning: Beginning | None
) -> dict[str, Any]:
    """The fields of `kind` that the options ask for."""
    fields: dict[str, Any] = {
        "uploads": [parse_upload(text) for text in asked.upload or ()],
        "setup": list(asked.setup or ()),
        "env_vars": dict(parse_variable(text) for text in asked.env or ()),
        "working_dir": asked.working_dir,
        "dirs": [os.path.abspath(path) for path in asked.dirs or ()],
        "isolation": asked.isolation,
        "network": _network(asked.network),
    }
    given = {field: value for field, value in fields.items() if value}
    if beginning is not None:
        given[beginning.field] = beginning.value
    for field in given.keys() - _fields(kind):
        option = (
            beginning.option if beginning and field == beginning.field else field.removesuffix("s")
        )
        hint = "choose another with --backend"
        raise Unsupported(f"--{option}", backend=kind.name, hint=hint)
    return given


def _network(text: str | None) -> str | Allow | None:
    """One of the words that backends know, or a list of hosts."""
    if text is None or text in ("none", "auto", "full"):
        return text
    return Allow(hosts=tuple(host.strip() for host in text.split(",")))


def _begun(asked: SandboxOptions) -> Beginning | None:
    """What the options begin a sandbox with."""
    image, dockerfile = asked.image, asked.dockerfile
    snapshot = asked.snapshot
    if sum(each is not None for each in (image, dockerfile, snapshot)) > 1:
        raise typer.BadParameter("give one of --image, --dockerfile and --snapshot")
    return _beginning(image, dockerfile, snapshot)


def _fields(kind: type[Backend]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _beginning(
    image: str | None, dockerfile: Path | None, snapshot: str | None
) -> Beginning | None:
    if snapshot is not None:
        return Beginning(option="snapshot", field="snapshot", value=snapshot)
    if dockerfile is not None:
        from paddock.image import Image

        if not dockerfile.is_file():
            raise FileNotFoundError(2, "no such Dockerfile", str(dockerfile))
        return Beginning(
            option="dockerfile", field="image", value=Image.from_dockerfile(dockerfile)
        )
    if image is not None:
        return Beginning(option="image", field="image", value=image)
    return None


def _completed(
    kind: type[Backend], given: Mapping[str, Any], project: Project, *, begun: bool
) -> dict[str, Any]:
    """`given`, and what the project's file says of the rest."""
    whole: dict[str, Any] = {
        **given,
        **_place(kind, given, project),
        "env_vars": {**project.env, **given.get("env_vars", {})},
        "setup": given.get("setup", project.setup),
    }
    beginning = _beginning(project.image, project.dockerfile, project.snapshot)
    if beginning and not begun:
        if beginning.field not in _fields(kind):
            raise _refused(
                project,
                beginning.option,
                f"the {kind.name} backend does not support it; choose another with --backend",
            )
        whole[beginning.field] = beginning.value
    if project.uv_version:
        whole |= _with_uv(kind, project.uv_version, whole["setup"])
    return whole


def _with_uv(kind: type[Backend], version: str, setup: Sequence[str]) -> dict[str, Any]:
    if "uv_version" in _fields(kind):
        return {"uv_version": version}
    # Where a sandbox has this machine's programs, nothing is put among them.
    command = require_command if kind.default_working_dir is None else install_command
    return {"setup": [command(version), *setup]}


def _place(kind: type[Backend], given: Mapping[str, Any], project: Project) -> dict[str, Any]:
    """Where the sandbox works, and the upload of the project unless uploads are given."""
    home = kind.default_working_dir
    if home is None:
        return _place_here(kind, given, project)
    working_dir = given.get("working_dir") or project.working_dir
    if "uploads" in given:
        return {"working_dir": working_dir}
    own = str(PurePosixPath(home, project.root.name))
    working_dir = working_dir or own
    # A working directory within the project's own place is one of its directories.
    within = PurePosixPath(working_dir).is_relative_to(own)
    place = own if within else working_dir
    return {"working_dir": working_dir, "uploads": [(str(project.root), place)]}


def _place_here(kind: type[Backend], given: Mapping[str, Any], project: Project) -> dict[str, Any]:
    """The same where sandboxes work in directories of this machine.

    Only a person gives one of those away, and into one that is given nothing is copied
    unasked. A file that came with a project must not open this machine to its commands.
    """
    if "working_dir" in given:
        return {}
    if project.working_dir:
        raise _refused(
            project,
            "working_dir",
            f"the {kind.name} backend works in directories of this machine, and a file may not "
            "choose one; choose another backend with --backend, or a directory with --working-dir",
        )
    return {} if "uploads" in given else {"uploads": [(str(project.root), ".")]}


def _refused(project: Project, key: str, why: str) -> ConfigError:
    return ConfigError(
        f"{project.path}: {project.prefix}sandbox.{key}: {why}, or leave the file aside with "
        "--no-project"
    )
