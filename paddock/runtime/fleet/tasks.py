"""Tasks of a batch and what identifies them. Knows no sandbox and no ledger."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from paddock.errors import ConfigError
from paddock.runtime.fleet.texts import json_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["Task", "digest_of", "folder_name", "parse_tasks", "read_tasks", "repeated"]

MAX_ID = 1024
"""Characters of an id: it stands in labels of sandboxes and in every report."""

MAX_NAME = 200
"""Bytes of a folder's name; file systems take 255, and drafts have a suffix."""

REPEAT = "@"
"""Between a task's id and the number of the repetition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task: `value` is what the user gave, any JSON value; `key` identifies it in its batch.

    `body` is the canonical JSON of `value`.
    """

    key: str
    body: str

    @property
    def value(self) -> Any:
        return json.loads(self.body)


def canonical(value: object, place: str) -> str:
    """Return the one JSON text of `value`; raise `ConfigError` if it has none."""
    try:
        return json_text(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{place} cannot be written as JSON: {error}") from None


def parse_tasks(values: Iterable[object]) -> Iterator[Task]:
    """Return a task for each value, named by its ``id`` or else by the hash of its JSON.

    Raise `ConfigError` for a value that has no JSON, an id that is not a text or a whole number,
    and an id that comes again.
    """
    seen: dict[str, int] = {}
    for number, value in enumerate(values, 1):
        place = f"task {number}"
        body = canonical(value, place)
        key = _key(value, body, place)
        if key in seen:
            what = f"the id {key!r}" if _has_id(value) else "the same content"
            raise ConfigError(f"{place} has {what} as task {seen[key]}; give each an id of its own")
        seen[key] = number
        yield Task(key=key, body=body)


def _has_id(value: object) -> bool:
    return isinstance(value, dict) and "id" in value


def _key(value: Any, body: str, place: str) -> str:
    if not _has_id(value):
        return hashlib.sha256(body.encode()).hexdigest()[:16]
    named = value["id"]
    if isinstance(named, bool) or not isinstance(named, str | int):
        raise ConfigError(f"{place}: id {named!r} has to be a text or a whole number")
    key = str(named)
    if not key or len(key) > MAX_ID or not key.isprintable():
        raise ConfigError(
            f"{place}: id {key[:40]!r} has to have 1 to {MAX_ID} printable characters"
        )
    return key


def repeated(tasks: Iterable[Task], times: int) -> Iterator[Task]:
    """Return each task `times` times, as KEY@1, KEY@2 and so on; once it keeps its key."""
    for task in tasks:
        if times == 1:
            yield task
            continue
        for number in range(1, times + 1):
            yield Task(key=f"{task.key}{REPEAT}{number}", body=task.body)


def read_tasks(path: Path) -> Iterator[object]:
    """Return the values in a JSON Lines file. Blocks.

    Lines end with a line feed and nothing else; empty ones are ignored. Raise `ConfigError` for
    one that is not JSON, naming its number.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"{path}, line {number} is not JSON: {error}") from None


def digest_of(tasks: Iterable[Task]) -> str:
    """Return the hash of the tasks in their order."""
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(f"{task.key}\t{task.body}\n".encode())
    return digest.hexdigest()


def folder_name(key: str) -> str:
    """Return a file name for the task `key`: no two keys have the same."""
    name = quote(key, safe="@ +=,")
    if name.startswith("."):
        name = f"%2E{name[1:]}"
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 20]}%%{hashlib.sha256(key.encode()).hexdigest()[:16]}"
