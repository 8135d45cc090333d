"""No command can leave a set-user-id or set-group-id file, or a device, on the host's disk."""

from __future__ import annotations

import os
import platform
import stat
from typing import TYPE_CHECKING

import pytest

from paddock import LocalBackend
from paddock.backends.isolation import seccomp
from paddock.errors import IsolationUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOBODY = 65534

ATTACK = r"""
import ctypes, os, platform, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
HERE, X86 = -100, platform.machine() == "x86_64"
CREATE, TEMPORARY = os.O_CREAT | os.O_RDWR, os.O_TMPFILE | os.O_RDWR
OPENAT, MKNODAT, MKDIRAT, FCHMOD, FCHMODAT, RENAMEAT2 = (
    (257, 259, 258, 91, 268, 316) if X86 else (56, 33, 34, 52, 53, 276))
OPENAT2, FCHMODAT2, FILE_SETATTR, IO_URING_SETUP = 437, 452, 469, 425
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, rights, 0xFFFFFFFF) for tag, rights in ((1, 7), (4, 5), (32, 5)))
reached = []
count = 0

def fresh():
    global count
    count += 1
    return b"f%d" % count

def plain():
    name = fresh()
    os.close(os.open(name, CREATE, 0o755))
    return name

def call(what, number, *arguments):
    # 64-bit arguments whose high halves are set: a filter looks at the low ones.
    result = libc.syscall(number, *(
        ctypes.c_long(each) if isinstance(each, int) else each for each in arguments))
    if result >= 0:
        reached.append(what)
    return result

def fill(name):
    # What keeps S_ISGID: a write while the group may not execute, and then an access list.
    try:
        with open(name, "r+b", buffering=0) as file:
            file.write(b"#!/bin/sh\n")
        os.setxattr(name, "system.posix_acl_access", ACL)
    except OSError:
        pass

HIGH = 0x7 << 32
os.umask(0)
os.mkdir("shared")
for bits in (0o4755, 0o2755, 0o6755, 0o2744, 0o4744, HIGH | 0o6755):
    how = "%o" % bits
    for flags in (CREATE, CREATE | os.O_EXCL, os.O_CREAT, CREATE | os.O_TRUNC, HIGH | CREATE):
        name = fresh()
        call("openat " + how, OPENAT, HERE, name, flags, bits)
        fill(name)
    for flags in (TEMPORARY, TEMPORARY | os.O_CREAT, HIGH | TEMPORARY):
        fd = call("O_TMPFILE " + how, OPENAT, HERE, b".", flags, bits)
        if fd >= 0:
            os.write(fd, b"#!/bin/sh\n")
            os.setxattr(fd, "system.posix_acl_access", ACL)
            name = fresh()
            libc.linkat(HERE, b"/proc/self/fd/%d" % fd, HERE, name, 0x400)
    for kind in (0, 0o100000, 0o010000, 0o140000, 0o020000, 0o060000):
        name = fresh()
        call("mknodat %o %s" % (kind, how), MKNODAT, HERE, name, kind | bits, 0)
        fill(name)
    call("mkdirat " + how, MKDIRAT, HERE, fresh(), bits)
    call("fchmodat " + how, FCHMODAT, HERE, plain(), bits)
    call("fchmodat of a directory " + how, FCHMODAT, HERE, b"shared", bits)
    call("fchmodat2 " + how, FCHMODAT2, HERE, plain(), bits, 0)
    fd = os.open(plain(), os.O_RDWR)
    call("fchmod " + how, FCHMOD, fd, bits)
    call("fchmodat2 of a descriptor " + how, FCHMODAT2, fd, b"", bits, 0x1000)
    wanted = struct.pack("QQQ", CREATE, bits & 0xFFFF, 0)
    call("openat2 " + how, OPENAT2, HERE, fresh(), wanted, 24)
    wanted = struct.pack("QIIII", bits, 0, 0, 0, 0)
    call("file_setattr " + how, FILE_SETATTR, HERE, plain(), wanted, 24, 0)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            call("fchmod of a socket " + how, FCHMOD, server.fileno(), bits)
            server.bind(fresh())
    except OSError:
        pass  # under Landlock there are no such sockets
    if X86:
        for number, *arguments in (
            (2, fresh(), CREATE, bits), (2, b".", TEMPORARY, bits), (85, fresh(), bits),
            (133, fresh(), bits, 0), (133, fresh(), 0o020000 | bits, 0), (83, fresh(), bits),
            (90, plain(), bits), (0x40000000 | 2, fresh(), CREATE, bits),
            (0x40000000 | 90, plain(), bits), (0x40000000 | 257, HERE, fresh(), CREATE, bits),
        ):
            call("%d %s" % (number, how), number, *arguments)
for kind in (0o020000, 0o060000):
    for device in (0, 0x103):
        call("mknodat of a device", MKNODAT, HERE, fresh(), kind | 0o666, device)
call("RENAME_WHITEOUT", RENAMEAT2, HERE, plain(), HERE, fresh(), 4)
call("io_uring", IO_URING_SETUP, 8, ctypes.create_string_buffer(120))
for number in (471, 480, 511, 512, 999):
    call("a call of the future", number, HERE, plain(), 0o6755, 0, 0, 0)

# What programs do need.
os.mkfifo("pipe")
os.mknod("node")
os.rename(plain(), fresh())
libc.renameat2(HERE, plain(), HERE, fresh(), 1)
with open("sticky", "w") as file:
    os.fchmod(file.fileno(), 0o1644)
os.close(os.open(".", TEMPORARY, 0o644))
print("done", reached)
"""

CAUGHT_32_BIT = r"""
import ctypes, mmap, os
# mov eax, 15 (chmod); mov ebx, path; mov ecx, 06755; int 0x80; ret
page = mmap.mmap(-1, 4096, prot=7, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
open("narrow", "w").close()
path = b"narrow\0"
page.seek(256)
page.write(path)
code = (b"\x53\xb8\x0f\0\0\0\xbb" + (address + 256).to_bytes(4, "little")
        + b"\xb9\xed\x0d\0\0\xcd\x80\x5b\xc3")
page.seek(0)
page.write(code)
print("made", flush=True)
ctypes.CFUNCTYPE(ctypes.c_int)(address)()
print("returned")
"""


@pytest.fixture(params=["bubblewrap", "landlock"])
async def fenced(
    request: pytest.FixtureRequest, require: Callable[[str, bool, str], None], tmp_path: Path
) -> LocalBackend:
    """A recipe that works in a directory of the host."""
    work = tmp_path / "work"
    work.mkdir()
    if request.param == "landlock" and os.getuid() == 0:  # there, nothing runs as root
        os.chown(work, NOBODY, NOBODY)
    recipe = LocalBackend(isolation=request.param, working_dir=str(work))
    try:
        async with recipe.sandbox():
            pass
    except IsolationUnavailable as error:
        require(request.param, False, error.reason)
    return recipe


def _unsafe(folder: Path) -> list[str]:
    """Names below `folder` with a set-id bit, and devices."""
    modes = {path: path.lstat().st_mode for path in folder.rglob("*")}
    return [
        f"{path.name} {stat.filemode(mode)}"
        for path, mode in sorted(modes.items())
        if mode & 0o6000 or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    ]


async def test_no_call_leaves_a_set_id_bit_or_a_device(
    fenced: LocalBackend, tmp_path: Path
) -> None:
    async with fenced.sandbox() as sandbox:
        result = await sandbox.exec(["python3", "-c", ATTACK], check=True)
    assert result.stdout.startswith("done")
    assert _unsafe(tmp_path / "work") == [], result.stdout
    assert stat.S_ISFIFO((tmp_path / "work" / "pipe").stat().st_mode)
    assert (tmp_path / "work" / "sticky").stat().st_mode & 0o1000


async def test_no_file_that_paddock_writes_has_one(fenced: LocalBackend, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    for name in ("tool", "below/tool"):
        (source / name).write_text("#!/bin/sh\n")
        (source / name).chmod(0o6755)
    (source / "below").chmod(0o2755)
    async with fenced.sandbox() as sandbox:
        await sandbox.fs.upload(source, "tree")
        await sandbox.fs.upload(source / "tool", "tool")
        await sandbox.fs.write_bytes("tool", b"other")
    assert _unsafe(tmp_path / "work") == []


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the code is that of x86_64")
async def test_32_bit_calls_are_the_end_of_the_command(
    fenced: LocalBackend, tmp_path: Path
) -> None:
    async with fenced.sandbox() as sandbox:
        result = await sandbox.exec(["python3", "-c", CAUGHT_32_BIT])
    assert result.stdout == "made\n"
    assert result.exit_code == 128 + 31, result  # SIGSYS
    assert _unsafe(tmp_path / "work") == []


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_table_names_the_calls_that_take_a_mode(machine: str) -> None:
    table = seccomp._TABLES[machine]
    older = {"x86_64": ({90, 91, 268, 85}, {133, 259}, {2, 257}, {316})}
    newer = {"aarch64": ({52, 53}, {33}, {56}, {276})}
    modes, nodes, creates, renames = (older | newer)[machine]
    assert set(table.modes) == modes | {452}
    assert set(table.nodes) == nodes
    assert set(table.creates) == creates
    assert set(table.renames) == renames
    assert 437 in table.absent  # openat2, whose mode no filter can read
