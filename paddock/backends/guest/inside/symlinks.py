"""Which symbolic links stay within a tree that is extracted."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["goes_up_late", "stays_within", "within"]


def within(path: str, target: str, root: str | None) -> str:
    """The target of the link `path`; relative, if it was absolute and in `root`.

    So what leads to a place in the tree leads to the same one in its copy.
    """
    if root is None or not f"{target}/".startswith(root.rstrip("/") + "/"):
        return target
    below = target[len(root.rstrip("/")) :].strip("/")
    return "../" * path.count("/") + below or "."


def parts_of(target: str) -> list[str]:
    return [part for part in target.split("/") if part not in ("", ".")]


def goes_up_late(target: str) -> bool:
    """Whether ``..`` comes after a name, so that what the name is decides where this leads."""
    parts = parts_of(target)
    while parts and parts[0] == "..":
        parts.pop(0)
    return ".." in parts


def stays_within(path: str, target: str, folders: Container[str]) -> bool:
    """Whether the link `path` of a tree leads to a place in it, now and whatever is added.

    `folders` are the directories of the tree: up from anything else may lead anywhere.
    """
    if not target or target.startswith("/") or "\0" in target:
        return False
    here = path.split("/")[:-1]
    named = False
    for part in parts_of(target):
        if part != "..":
            here.append(part)
            named = True
        elif not here or (named and "/".join(here) not in folders):
            return False
        else:
            here.pop()
    return True
