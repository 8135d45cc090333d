"""`Image`: the verbs, each of which gives a new image with one step more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from paddock.errors import ConfigError
from paddock.image import steps
from paddock.image.dockerfile import dockerfile_bundle, steps_bundle

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from paddock.image.bundle import Bundle
    from paddock.image.steps import Step

__all__ = ["Image"]

DEBIAN = "bookworm"
PYTHON = re.compile(r"3\.\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Image:
    """A recipe for what is in a sandbox: a value, which can be shared, compared and hashed.

    Every verb returns a new image and leaves this one as it is. Input that cannot be
    right is a `ConfigError` at once. The files that an image names are read when it is
    compiled (`dockerfile`, `context`, `digest`, `bundle`), which blocks and which raises
    `ConfigError` for those that are not there.
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        begins = [
            isinstance(step, steps.FromRegistry | steps.FromDockerfile) for step in self.steps
        ]
        if begins[:1] != [True] or any(begins[1:]):
            raise ConfigError("an image begins, once, with from_registry or from_dockerfile")

    @classmethod
    def from_registry(cls, name: str) -> Self:
        """Begin with an image of a registry, or one that the engine has."""
        return cls((steps.FromRegistry(name=name),))

    @classmethod
    def debian_slim(cls, python: str = "3.12") -> Self:
        """Begin with Debian and the `python` of that version, from Docker's own images."""
        if not PYTHON.fullmatch(str(python)):
            raise ConfigError(f"debian_slim: {python!r} is not a version of Python such as 3.12")
        return cls.from_registry(f"python:{python}-slim-{DEBIAN}")

    @classmethod
    def from_dockerfile(
        cls,
        path: str | os.PathLike[str],
        context: str | os.PathLike[str] | None = None,
        *,
        target: str | None = None,
        build_args: Mapping[str, str] | None = None,
        secrets: Mapping[str, str | os.PathLike[str]] | None = None,
        platform: str | None = None,
    ) -> Self:
        """Begin with what a Dockerfile makes of its `context`, by default the folder it is in.

        The Dockerfile's own ignore file (``NAME.dockerignore`` beside it) takes precedence over
        the ``.dockerignore`` in the context.

        - `target`: the stage to build; by default the last.
        - `build_args`: values for its ARGs. Everyone who has the image can read them.
        - `secrets`: what ``RUN --mount=type=secret,id=NAME`` reads, by id: text, or the path of a
          file. They reach neither the image nor any log or error, and do not change the digest.
        - `platform`: such as ``linux/arm64``; by default the engine's own.
        """
        verb = steps.FromDockerfile.verb
        file = steps.local_path(verb, path)
        return cls(
            (
                steps.FromDockerfile(
                    path=file,
                    context=steps.local_path(verb, file.parent if context is None else context),
                    target=target,
                    build_args=build_args or {},
                    secrets={
                        name: value if isinstance(value, str) else steps.local_path(verb, value)
                        for name, value in (secrets or {}).items()
                    },
                    platform=platform,
                ),
            )
        )

    def apt_install(self, *packages: str) -> Self:
        """Install Debian packages, without what they recommend."""
        return self._with(steps.AptInstall(packages=packages))

    def pip_install(
        self,
        *packages: str,
        index_url: str | None = None,
        extra_index_urls: Sequence[str] = (),
        pre: bool = False,
    ) -> Self:
        """Install Python packages, named as pip takes them: ``"httpx>=0.27"``."""
        options = steps.PipOptions(index_url=index_url, extra_index_urls=extra_index_urls, pre=pre)
        return self._with(steps.PipInstall(packages=packages, options=options))

    def pip_install_from_requirements(
        self,
        path: str | os.PathLike[str],
        *,
        index_url: str | None = None,
        extra_index_urls: Sequence[str] = (),
        pre: bool = False,
    ) -> Self:
        """Install what a requirements file lists."""
        file = steps.local_path("pip_install_from_requirements", path)
        options = steps.PipOptions(index_url=index_url, extra_index_urls=extra_index_urls, pre=pre)
        return self._with(steps.PipInstallFromRequirements(path=file, options=options))

    def pip_install_from_pyproject(
        self,
        path: str | os.PathLike[str],
        *,
        extras: Sequence[str] = (),
        groups: Sequence[str] = (),
        index_url: str | None = None,
        extra_index_urls: Sequence[str] = (),
        pre: bool = False,
    ) -> Self:
        """Install the dependencies in a pyproject.toml, and those of `extras` and `groups`.

        The project itself is not installed, so that a change of its code costs no build.
        """
        file = steps.local_path("pip_install_from_pyproject", path)
        options = steps.PipOptions(index_url=index_url, extra_index_urls=extra_index_urls, pre=pre)
        return self._with(
            steps.PipInstallFromPyproject(path=file, extras=extras, groups=groups, options=options)
        )

    def uv_sync(
        self,
        path: str | os.PathLike[str] = ".",
        *,
        extras: Sequence[str] = (),
        groups: Sequence[str] = (),
    ) -> Self:
        """Install what the pyproject.toml and uv.lock in the folder `path` say, as they say it.

        The environment is first on PATH. The project itself is not installed.
        """
        folder = steps.local_path("uv_sync", path)
        return self._with(steps.UvSync(path=folder, extras=extras, groups=groups))

    def run_commands(self, *commands: str) -> Self:
        """Run shell commands by ``/bin/sh -c``, each in a layer of its own."""
        return self._with(steps.RunCommands(commands=commands))

    def env(self, variables: Mapping[str, str]) -> Self:
        """Set variables. Values are literal: no variable in them is looked up.

        They are readable by everyone who has the image, so secrets belong elsewhere.
        """
        return self._with(steps.Env(variables=variables))

    def workdir(self, path: str) -> Self:
        """Start processes in `path`, which is made if it is not there."""
        return self._with(steps.Workdir(path=path))

    def add_local_file(self, local: str | os.PathLike[str], remote: str) -> Self:
        """Copy a file in; into the directory `remote` if that ends in ``/``."""
        file = steps.local_path("add_local_file", local)
        return self._with(steps.AddLocalFile(local=file, remote=remote))

    def add_local_dir(
        self, local: str | os.PathLike[str], remote: str, *, ignore: Sequence[str] = ()
    ) -> Self:
        """Copy what is in a directory into the directory `remote`.

        `ignore` are patterns as in a ``.dockerignore``, which alone decide what stays out.
        Links stay links; sockets and pipes are left out.
        """
        folder = steps.local_path("add_local_dir", local)
        return self._with(steps.AddLocalDir(local=folder, remote=remote, ignore=ignore))

    def user(self, name: str) -> Self:
        """Run what comes after, and what runs in the sandbox, as `name`."""
        return self._with(steps.User(name=name))

    @property
    def parent(self) -> Image | None:
        """What it begins with, where more steps come after that."""
        return Image(self.steps[:1]) if len(self.steps) > 1 else None

    @property
    def name(self) -> str | None:
        """What `from_registry` was given, where no step comes after it: nothing is built then."""
        match self.steps:
            case (steps.FromRegistry(name=name),):
                return name
        return None

    def dockerfile(self) -> str:
        """The Dockerfile that this image compiles to."""
        return self.bundle().dockerfile

    def context(self) -> Iterator[tuple[str, Path]]:
        """What the Dockerfile copies: names in the build's context and the paths behind them."""
        for member in self.bundle().members:
            if isinstance(member.source, Path):
                yield member.name, member.source

    def digest(self) -> str:
        """A name for the content: 32 hex digits.

        The same wherever the files are, whoever owns them and whenever they were
        written; another one if any file's content or mode, or any step, is another.
        """
        return self.bundle().digest

    def reference(self) -> str:
        """What the image is called on an engine."""
        return self.name or self.bundle().reference

    def bundle(self) -> Bundle:
        """Everything that a build needs, as it is on disk now."""
        first = self.steps[0]
        if isinstance(first, steps.FromDockerfile) and self.parent is None:
            return dockerfile_bundle(first)
        return steps_bundle((self.parent or self).reference(), self.steps[1:])

    def _with(self, step: Step) -> Self:
        return type(self)((*self.steps, step))
