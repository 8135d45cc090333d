"""Build, pull and import: one request each, and what the engine's answers mean."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.engine.stream import post
from paddock.backends.docker.images.logins import registry_of
from paddock.backends.docker.images.progress import FIRST, LAST_LINES
from paddock.backends.images import Output, Step, Transfer
from paddock.errors import BuildFailed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    from paddock.backends.docker.engine.client import Engine
    from paddock.backends.docker.images.builders import BuildRequest
    from paddock.backends.docker.images.logins import Logins
    from paddock.backends.images import ImageProgressCallback
    from paddock.image.bundle import Bundle

__all__ = ["build_bundle", "import_root", "pull"]

STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
COLOURS = re.compile("\x1b\\[(91|0)m")
"""The engine colours what a command writes to stderr."""
OWN = re.compile(r" ---> .*|Removing intermediate container \w+")
"""Lines of the engine's own between those of a command."""
BAD_REQUEST = 400
"""The status for a Dockerfile that the engine cannot read."""


async def build_bundle(
    engine: Engine,
    bundle: Bundle,
    request: BuildRequest,
    logins: Logins,
    tell: ImageProgressCallback,
) -> None:
    """Build and tag an image by the classic builder.

    Raise `BuildFailed` for a Dockerfile that cannot be read and for a step that fails, and
    `EngineError` if the engine fails. On cancellation the engine ends the build and removes its
    container.
    """
    tag = request.tag
    what = f"building {tag}"
    target = bundle.origin.target if bundle.origin is not None else None
    query = {
        "t": tag,
        "dockerfile": bundle.name,
        "labels": json.dumps(dict(request.labels)),
        "buildargs": json.dumps(dict(request.args)),
        "rm": "1",
        "forcerm": "1",
        **({"networkmode": request.network} if request.network else {}),
        **({"target": target} if target else {}),
    }
    headers = logins.build_headers()
    answers = _Answers(tag, tell)
    body = _told(_threaded(bundle.tar()), tag, "context", tell)
    try:
        async with (
            aclosing(body),
            post(engine, what, "/build", query=query, headers=headers, body=body) as events,
        ):
            async for event in events:
                answers.take(event)
    except EngineError as error:
        if error.status != BAD_REQUEST:
            raise
        reason = str(error).removeprefix(f"{what}: ")
        raise BuildFailed(tag, step=FIRST, reason=reason) from None
    answers.finish()


async def pull(
    engine: Engine,
    image: str,
    logins: Logins,
    tell: ImageProgressCallback,
    *,
    platform: str | None = None,
) -> None:
    """Fetch `image` from its registry. Raise `EngineError`."""
    name, tag = _name_and_tag(image)
    what = f"pulling {image}"
    headers = logins.pull_headers(registry_of(image))
    query = {"fromImage": name, "tag": tag, **({"platform": platform} if platform else {})}
    async with post(engine, what, "/images/create", query=query, headers=headers) as events:
        async for event in events:
            if "error" in event:
                raise EngineError(f"{what}: {event['error']}")
            _tell_layer(event, image, tell)


async def import_root(
    engine: Engine,
    archive: AsyncGenerator[bytes],
    *,
    tag: str,
    labels: Mapping[str, str],
    tell: ImageProgressCallback,
) -> None:
    """Make an image of one layer from a tar stream of a root.

    Raise `EngineError`, and what `archive` raises; then nothing is imported.
    """
    name, version = _name_and_tag(tag)
    what = f"importing {tag}"
    changes = [f"LABEL {key}={json.dumps(value)}" for key, value in labels.items()]
    query = {"fromSrc": "-", "repo": name, "tag": version, "changes": "\n".join(changes)}
    body = _told(archive, tag, "root", tell)
    async with (
        aclosing(body),
        post(engine, what, "/images/create", query=query, body=body) as events,
    ):
        async for event in events:
            if "error" in event:
                raise EngineError(f"{what}: {event['error']}")


class _Answers:
    """Reads the engine's events of one build: reports steps and lines, and raises its failure."""

    def __init__(self, tag: str, tell: ImageProgressCallback) -> None:
        self._tag = tag
        self._tell = tell
        self._step = FIRST
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._partial = ""
        self._built = False

    def take(self, event: Mapping[str, Any]) -> None:
        if "error" in event:
            self._line(self._partial)
            raise BuildFailed(
                self._tag, step=self._step, reason=event["error"], output="\n".join(self._lines)
            )
        if "stream" in event:
            *lines, self._partial = (self._partial + event["stream"]).split("\n")
            for line in lines:
                self._line(line)
        elif "aux" in event:
            self._built = self._built or "ID" in event["aux"]
        else:
            _tell_layer(event, self._tag, self._tell)

    def finish(self) -> None:
        if not self._built:
            raise EngineError(f"building {self._tag}: the engine ended without an image")

    def _line(self, text: str) -> None:
        line = COLOURS.sub("", text)
        if match := STEP.fullmatch(line):
            self._step = _readable(match[3])
            self._lines.clear()
            number, total = int(match[1]), int(match[2])
            self._tell(Step(image=self._tag, number=number, total=total, instruction=self._step))
        elif line.strip():
            if not OWN.fullmatch(line):
                self._lines.append(line)
            self._tell(Output(image=self._tag, line=line))


def _readable(instruction: str) -> str:
    """Return a RUN in JSON as a person would have written it."""
    word, _, rest = instruction.partition(" ")
    if word == "RUN" and rest.startswith("["):
        try:
            argv = json.loads(rest)
        except ValueError:
            return instruction
        return " ".join([word, *(argv[2:] if argv[:2] == ["/bin/sh", "-c"] else argv)])
    return instruction


def _tell_layer(event: Mapping[str, Any], image: str, tell: ImageProgressCallback) -> None:
    detail = event.get("progressDetail") or {}
    words = [event[key] for key in ("id", "status") if event.get(key)]
    if "current" in detail:
        what = " ".join(words)
        tell(Transfer(image=image, what=what, done=detail["current"], total=detail.get("total")))
    elif words:
        tell(Output(image=image, line=": ".join(words)))


async def _told(
    body: AsyncGenerator[bytes], image: str, what: str, tell: ImageProgressCallback
) -> AsyncGenerator[bytes]:
    done = 0
    async with aclosing(body):
        async for data in body:
            yield data
            done += len(data)
            tell(Transfer(image=image, what=what, done=done))
    tell(Transfer(image=image, what=what, done=done, total=done))


async def _threaded(pieces: Iterator[bytes]) -> AsyncGenerator[bytes]:
    """Read a blocking iterator in threads, a batch at a time as small files are many."""
    while batch := await asyncio.to_thread(_batch, pieces):
        yield batch


def _batch(pieces: Iterator[bytes], size: int = 1 << 20) -> bytes:
    batch = bytearray()
    for piece in pieces:
        batch += piece
        if len(batch) >= size:
            break
    return bytes(batch)


def _name_and_tag(image: str) -> tuple[str, str]:
    """Return name and tag apart, or name and digest, as the engine's API takes them."""
    if "@" in image:
        name, _, digest = image.partition("@")
        return name, digest
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")
