"""Files by one short request each; runs in the guest's own process, so nothing here may block."""

from __future__ import annotations

import os
import stat

from .accounts import find_group_id, find_user_id
from .files import entry, open_regular, write_all
from .wire import INLINE
from .writing import Replacement, about, make_directories, open_to_append

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Body = dict[str, Any]
    Answer = tuple[Body, bytes]


def read(body: Body, blob: bytes) -> Answer:
    fd = open_regular(body["path"])
    try:
        data = os.pread(fd, min(body["limit"], INLINE), body["offset"])
        return {"size": os.fstat(fd).st_size}, data
    finally:
        os.close(fd)


def write(body: Body, blob: bytes) -> Answer:
    writer = Replacement(body["path"], exclusive=body["exclusive"])
    try:
        writer.write(blob)
        writer.commit(expect=body.get("expect"))
    finally:
        writer.close()
    return {}, b""


def append(body: Body, blob: bytes) -> Answer:
    fd = open_to_append(body["path"])
    try:
        before = os.fstat(fd).st_size
        with about(body["path"]):
            try:
                write_all(fd, blob)
            except OSError:  # there is no room for all of it, so none stays
                os.ftruncate(fd, before)
                raise
    finally:
        os.close(fd)
    return {}, b""


def stat_path(body: Body, blob: bytes) -> Answer:
    return {
        "entry": entry(body["path"], os.stat(body["path"], follow_symlinks=body["follow"]))
    }, b""


def make_directory(body: Body, blob: bytes) -> Answer:
    path = body["path"]
    with about(path):
        try:
            os.mkdir(path)
        except FileNotFoundError:
            if not body["parents"]:
                raise
            make_directories(os.path.dirname(path))
            os.mkdir(path)
        except OSError:
            if not (body["exist_ok"] and os.path.isdir(path)):
                raise
    return {}, b""


def remove(body: Body, blob: bytes) -> Answer:
    path = body["path"]
    if stat.S_ISDIR(os.lstat(path).st_mode):
        os.rmdir(path)
    else:
        os.unlink(path)
    return {}, b""


def move(body: Body, blob: bytes) -> Answer:
    os.rename(body["path"], body["to"])
    return {}, b""


def change_mode(body: Body, blob: bytes) -> Answer:
    os.chmod(body["path"], body["mode"])
    return {}, b""


def change_owner(body: Body, blob: bytes) -> Answer:
    uid = -1 if body["owner"] is None else find_user_id(body["owner"])
    gid = -1 if body["group"] is None else find_group_id(body["group"])
    os.chown(body["path"], uid, gid)
    return {}, b""


def ping(body: Body, blob: bytes) -> Answer:
    """An answer, which is all that is asked for."""
    return {}, b""


OPERATIONS: dict[str, Callable[[Body, bytes], Answer]] = {
    "ping": ping,
    "read": read,
    "write": write,
    "append": append,
    "stat": stat_path,
    "mkdir": make_directory,
    "remove": remove,
    "move": move,
    "chmod": change_mode,
    "chown": change_owner,
}
