"""Files by one short request each; runs in the guest's own process, so nothing here may block."""

from __future__ import annotations

import errno
import hashlib
import os
import stat

from .wire import INLINE

def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def describe(error):
    """An exception as the wire has it."""
    if isinstance(error, OSError) and error.errno is not None:
        return {"errno": error.errno, "text": error.strerror or "", "path": error.filename}
    return {"kind": type(error).__name__, "text": str(error)}


def open_regular(path):
    """Open a regular file for reading; never blocks on a pipe, never opens a device."""
    if stat.S_ISDIR(os.stat(path).st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    refuse_special(os.stat(path).st_mode, path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        refuse_special(os.fstat(fd).st_mode, path)
    except OSError:
        os.close(fd)
        raise
    return fd


def refuse_special(mode, path):
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", path)


def read(body, blob):
    fd = open_regular(body["path"])
    try:
        data = os.pread(fd, min(body["limit"], INLINE), body["offset"])
        return {"size": os.fstat(fd).st_size}, data
    finally:
        os.close(fd)


def write(body, blob):
    writer = Replacement(body["path"])
    try:
        writer.write(blob)
        writer.commit(body["exclusive"], body.get("expect"))
    finally:
        writer.close()


class Replacement:
    """A file that takes the place of another in one step, or leaves no trace."""

    def __init__(self, path):
        self.path = os.path.realpath(path)  # a link stays, what it points to is replaced
        folder, name = os.path.split(self.path)
        os.makedirs(folder, exist_ok=True)
        try:
            old = os.stat(self.path)
        except FileNotFoundError:
            self.mode = None
        else:
            if stat.S_ISDIR(old.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            refuse_special(old.st_mode, path)
            self.mode = stat.S_IMODE(old.st_mode) & 0o777
        suffix = os.urandom(6).hex()
        # A name of 255 bytes has no room for a suffix, so the stem is not part of it.
        self.temporary = os.path.join(folder, ".paddock-" + suffix)
        self.fd = os.open(
            self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666
        )

    def write(self, data):
        write_all(self.fd, data)

    def commit(self, exclusive=False, expect=None):
        if self.mode is not None:
            os.fchmod(self.fd, self.mode)
        if expect is not None and digest(self.path) != expect:
            raise FileChanged("%s is not as it was read" % self.path)
        if exclusive:
            os.link(self.temporary, self.path)
            os.unlink(self.temporary)
        else:
            os.rename(self.temporary, self.path)
        self.temporary = None

    def close(self):
        os.close(self.fd)
        if self.temporary is not None:
            os.unlink(self.temporary)


class FileChanged(Exception):
    """A file was to be replaced only if still as read, and it was not."""


def digest(path):
    total = hashlib.sha256()
    fd = open_regular(path)
    with open(fd, "rb") as file:
        for piece in iter(lambda: file.read(INLINE), b""):
            total.update(piece)
    return total.hexdigest()


def entry(path, info):
    """One file as the wire has it: path, kind, size, permission bits, time of change."""
    mode = info.st_mode
    if stat.S_ISREG(mode):
        kind = "file"
    elif stat.S_ISDIR(mode):
        kind = "directory"
    elif stat.S_ISLNK(mode):
        kind = "symlink"
    else:
        kind = "other"
    return [path, kind, info.st_size, stat.S_IMODE(mode), info.st_mtime]


def stat_path(body, blob):
    return {"entry": entry(body["path"], os.stat(body["path"]))}


def make_directory(body, blob):
    path = body["path"]
    if body["parents"]:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        os.mkdir(path)
    except FileExistsError:
        if not (body["exist_ok"] and os.path.isdir(path)):
            raise


def remove(body, blob):
    path = body["path"]
    if stat.S_ISDIR(os.lstat(path).st_mode):
        os.rmdir(path)
    else:
        os.unlink(path)


def move(body, blob):
    os.rename(body["path"], body["to"])


OPERATIONS = {
    "read": read,
    "write": write,
    "stat": stat_path,
    "mkdir": make_directory,
    "remove": remove,
    "move": move,
}
