"""Builds Dockerfiles by the engine's own BuildKit, which only the docker CLI can ask for.

The context that is sent is a copy: what the user ignores is not in it, and every file is as it was
when the image's digest was made. Secrets and build arguments reach the CLI by its environment.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from paddock._concurrency import acquire, finish
from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.engine.endpoint import read_settings, settings_folder
from paddock.backends.docker.images.programs import end_group
from paddock.backends.docker.images.progress import PlainProgress
from paddock.errors import ConfigError
from paddock.image.folder import build_folder
from paddock.redaction import MOST, Redactor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.docker.engine.endpoint import Endpoint
    from paddock.backends.docker.images.builders import BuildRequest
    from paddock.backends.docker.images.cli import DockerCli
    from paddock.backends.docker.images.logins import Logins
    from paddock.backends.images import ImageProgressCallback
    from paddock.image.bundle import Bundle
    from paddock.image.steps import FromDockerfile

__all__ = ["build_with_buildkit"]

GRACE = 10.0
"""Seconds for the CLI to end its build after SIGTERM, before SIGKILL."""
LONGEST_LINE = 1 << 20
"""Bytes of a line of progress; a command may print longer ones, which are cut."""
INHERITED = ("PATH", "HOME", "USER", "TMPDIR", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR")
TO_THE_CLI = ("DOCKER_", "BUILDX_", "BUILDKIT_", "PADDOCK_BUILD_", "LD_", "GO", "SSL_")
"""Beginnings of names that mean something to the CLI itself, and are no build arguments there."""
PLUGINS = "cli-plugins"
MARK = "[secret of the build]"


async def build_with_buildkit(
    engine: Engine,
    cli: DockerCli,
    bundle: Bundle,
    request: BuildRequest,
    logins: Logins,
    tell: ImageProgressCallback,
) -> None:
    """Build and tag an image of the user's Dockerfile.

    Raise `BuildFailed` for a step that fails, and `EngineError` if no build began. On cancellation
    the CLI is ended, and by that the build.
    """
    origin = bundle.origin
    assert origin is not None
    secrets = await asyncio.to_thread(_read_secrets, origin)
    progress = PlainProgress(request.tag, tell, Redactor.marking(secrets, MARK))
    async with build_folder() as folder:
        preparing = asyncio.to_thread(_prepare, bundle, logins, folder)
        config = await acquire(preparing, _closed)
        try:
            options, variables = _options(origin, request, folder)
            command = [cli.program, *_address(engine.endpoint), *cli.build, *options]
            code = await _run(command, _environment(folder) | variables, config, progress)
        finally:
            os.close(config)
    progress.finish(code)


async def _closed(descriptor: int) -> None:
    os.close(descriptor)


def _prepare(bundle: Bundle, logins: Logins, folder: Path) -> int:
    """Fill the directory; return the descriptor by which the CLI reads its configuration.

    There are passwords in that. In a file they would stay where this process is killed.
    """
    context, beside, config = (folder / name for name in ("context", "dockerfile", "config"))
    for each in (context, beside, config):
        each.mkdir()
    bundle.write_context(context)
    (beside / "Dockerfile").write_text(bundle.dockerfile, encoding="utf-8")
    # It goes before the .dockerignore of the context, which has been applied.
    (beside / "Dockerfile.dockerignore").write_text("# applied already\n")
    theirs = settings_folder(os.environ.get("DOCKER_CONFIG"))
    settings = {"auths": logins.config()}
    if directories := (read_settings(theirs / "config.json") or {}).get("cliPluginsExtraDirs"):
        settings["cliPluginsExtraDirs"] = directories
    if (theirs / PLUGINS).is_dir():
        (config / PLUGINS).symlink_to((theirs / PLUGINS).absolute())
    descriptor = os.memfd_create("config.json")
    os.write(descriptor, json.dumps(settings).encode())
    (config / "config.json").symlink_to(f"/proc/self/fd/{descriptor}")
    return descriptor


def _options(
    origin: FromDockerfile, request: BuildRequest, folder: Path
) -> tuple[list[str], dict[str, str]]:
    """Return the options of the build, and the variables that they refer to."""
    options = ["--progress=plain", f"--tag={request.tag}"]
    options += [f"--file={folder}/dockerfile/Dockerfile"]
    options += [f"--label={name}={value}" for name, value in request.labels.items()]
    chosen = {"target": origin.target, "platform": origin.platform, "network": request.network}
    options += [f"--{name}={value}" for name, value in chosen.items() if value is not None]
    variables = {}
    for name, value in request.args.items():
        if name in INHERITED or name.startswith(TO_THE_CLI):
            options.append(f"--build-arg={name}={value}")
        else:
            options.append(f"--build-arg={name}")
            variables[name] = value
    for number, (name, secret) in enumerate(origin.secrets.items()):
        if isinstance(secret, Path):
            options.append(f"--secret={_fields(f'id={name}', f'src={secret}')}")
        else:
            variable = f"PADDOCK_BUILD_SECRET_{number}"
            options.append(f"--secret={_fields(f'id={name}', 'type=env', f'env={variable}')}")
            variables[variable] = secret
    return [*options, f"{folder}/context"], variables


def _fields(*fields: str) -> str:
    """Return a line of CSV, as which the CLI reads the option."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _address(endpoint: Endpoint) -> list[str]:
    options = [f"--host={endpoint.url}"]
    if endpoint.ca is not None or endpoint.cert is not None:
        options.append("--tlsverify" if endpoint.verify else "--tls")
    if endpoint.ca is not None:
        options.append(f"--tlscacert={endpoint.ca}")
    if endpoint.cert is not None:
        options += [f"--tlscert={endpoint.cert[0]}", f"--tlskey={endpoint.cert[1]}"]
    return options


def _environment(folder: Path) -> dict[str, str]:
    inherited = {name: value for name in INHERITED if (value := os.environ.get(name))}
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return (
        inherited
        | proxies
        | {
            "DOCKER_CONFIG": f"{folder}/config",
            "DOCKER_BUILDKIT": "1",
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",  # they would make it a list of images
            "BUILDX_CONFIG": f"{folder}/config/buildx",
        }
    )


def _read_secrets(origin: FromDockerfile) -> list[str]:
    """Return what must not be shown: secrets, and the lines of those that are long."""
    values = []
    for name, secret in origin.secrets.items():
        try:
            value = secret.read_text(errors="replace") if isinstance(secret, Path) else secret
        except OSError as error:
            raise ConfigError(
                f"from_dockerfile: the secret {name}: {error.filename}: {error.strerror}"
            ) from error
        values += [value] if len(value.encode()) <= MOST else value.splitlines()
    return values


async def _run(
    command: list[str], env: Mapping[str, str], config: int, progress: PlainProgress
) -> int:
    """Run the CLI to its end; return its exit code."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=env,
        pass_fds=[config],
        start_new_session=True,
        limit=LONGEST_LINE,
    )
    assert process.stderr is not None
    try:
        await _follow(process.stderr, progress)
        return await process.wait()
    except OSError as error:
        raise EngineError(f"the docker CLI cannot be read: {error}") from error
    finally:
        await finish(end_group(process, GRACE))


async def _follow(stream: asyncio.StreamReader, progress: PlainProgress) -> None:
    while True:
        try:
            line = await stream.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            line = await stream.readexactly(error.consumed)
        except asyncio.IncompleteReadError as error:
            progress.take(error.partial.decode(errors="replace"))
            return
        progress.take(line.decode(errors="replace"))
