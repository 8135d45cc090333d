"""What a Dockerfile needs of its builder: images, arguments and features with their versions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddock.image.instructions import expand

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from paddock.image.instructions import Instruction, Source

__all__ = ["Need", "images_of", "needs_of"]

FLAGS: Mapping[tuple[str, str], tuple[int, int]] = {
    ("RUN", "mount"): (20, 10),
    ("COPY", "chmod"): (20, 10),
    ("ADD", "chmod"): (20, 10),
    ("FROM", "platform"): (20, 10),
    ("COPY", "link"): (23, 0),
    ("ADD", "link"): (23, 0),
    ("RUN", "network"): (23, 0),
    ("RUN", "security"): (29, 1),
    ("ADD", "checksum"): (25, 0),
    ("ADD", "keep-git-dir"): (25, 0),
    ("HEALTHCHECK", "start-interval"): (25, 0),
    ("ADD", "unpack"): (28, 3),
    ("COPY", "exclude"): (29, 0),
    ("ADD", "exclude"): (29, 0),
    ("COPY", "parents"): (29, 1),
}
"""Flags that only BuildKit has, and the first Docker Engine whose own BuildKit has them."""
HEREDOCS = (23, 0)
SECRET_AS_VARIABLE = (27, 3)
GIT = (25, 0)
TRIMMING = (26, 0)
PLATFORM_ARGUMENTS = (20, 10)
GIT_SOURCE = re.compile(r"git@\S+:\S+|git://\S+|https?://\S+\.git(#\S*)?")
TRIMMED = re.compile(r"\$\{\w+[#%/][^}]*\}")
EXPANDED = frozenset({"ADD", "ARG", "COPY", "ENV", "EXPOSE", "FROM", "LABEL", "USER", "WORKDIR"})
"""Instructions whose variables the builder replaces; in others the shell does."""
PLATFORM_ARGUMENT = re.compile(r"(?:BUILD|TARGET)(?:PLATFORM|OS|ARCH|VARIANT)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A feature that an instruction uses: BuildKit has it, as of an `engine` of that version."""

    line: int
    feature: str
    engine: tuple[int, int]

    def __str__(self) -> str:
        version = ".".join(map(str, self.engine))
        return (
            f"line {self.line}: {self.feature} needs BuildKit of Docker Engine {version} or newer"
        )


def needs_of(source: Source) -> list[Need]:
    """Return the features that the classic builder does not have, by line."""
    return [need for each in source.instructions for need in _needs(each)]


def images_of(source: Source, args: Mapping[str, str]) -> list[str]:
    """Return the images that a Dockerfile begins with and copies from, with arguments replaced.

    Stages of its own are left out, and so is what has an argument without a value.
    """
    values: dict[str, str] = {}
    stages: set[str] = set()
    found: dict[str, None] = {}
    for each in source.instructions:
        if each.onbuild:  # for images that begin with this one
            continue
        if each.keyword == "ARG" and not stages:
            _declare(each, args, values)
        elif each.keyword == "FROM" and (words := each.words):
            _add(found, expand(words[0], values), stages)
            stages.add(words[2].lower() if len(words) > 2 else str(len(stages)))
        elif each.keyword in ("COPY", "RUN"):
            for name in _sources(each):
                _add(found, expand(name, values), stages)
    return list(found)


def _add(found: dict[str, None], name: str, stages: set[str]) -> None:
    if name and name.lower() not in stages and not name.isdecimal() and name != "scratch":
        found[name] = None


def _declare(arg: Instruction, args: Mapping[str, str], values: dict[str, str]) -> None:
    for word in arg.words:
        name, has_default, default = word.partition("=")
        if name in args:
            values[name] = args[name]
        elif has_default:
            values[name] = expand(default, values)


def _sources(each: Instruction) -> Iterator[str]:
    for flag, value in each.flags:
        if (each.keyword, flag) == ("COPY", "from"):
            yield value
        elif (each.keyword, flag) == ("RUN", "mount"):
            parts = (part.partition("=") for part in value.split(","))
            yield from (name for key, _, name in parts if key == "from")


def _needs(each: Instruction) -> Iterator[Need]:
    line = each.line
    for flag in dict(each.flags):
        if (engine := FLAGS.get((each.keyword, flag))) is not None:
            yield Need(line=line, feature=f"{each.keyword} --{flag}", engine=engine)
    if any(_is_secret_as_variable(each.keyword, *flag) for flag in each.flags):
        feature = "RUN --mount=type=secret with env="
        yield Need(line=line, feature=feature, engine=SECRET_AS_VARIABLE)
    if each.heredocs:
        feature = f"{each.keyword} with a heredoc (<<{each.heredocs[0]})"
        yield Need(line=line, feature=feature, engine=HEREDOCS)
    if each.keyword == "ADD" and any(GIT_SOURCE.fullmatch(word) for word in each.words[:-1]):
        yield Need(line=line, feature="ADD of a Git repository", engine=GIT)
    if each.keyword in EXPANDED and (match := TRIMMED.search(each.text)):
        yield Need(line=line, feature=f"{match[0]} in {each.keyword}", engine=TRIMMING)
    if each.keyword == "ARG" and PLATFORM_ARGUMENT.match(each.text):
        yield Need(line=line, feature=f"ARG {each.words[0]}", engine=PLATFORM_ARGUMENTS)


def _is_secret_as_variable(keyword: str, flag: str, value: str) -> bool:
    options = dict(part.partition("=")[::2] for part in value.split(","))
    is_mount = (keyword, flag) == ("RUN", "mount")
    return is_mount and options.get("type") == "secret" and "env" in options
