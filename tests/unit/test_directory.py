"""A directory whose files nobody else can put in our way."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from paddock._directory import PrivateDirectory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = b"PRIVATE KEY OF THE USER\n"
WRITING = os.O_RDWR | os.O_CREAT


def link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def dangling(path: Path, victim: Path) -> None:
    path.symlink_to(victim.with_name("not there"))


def hard_link(path: Path, victim: Path) -> None:
    path.hardlink_to(victim)


def fifo(path: Path, _victim: Path) -> None:
    os.mkfifo(path)


def directory(path: Path, _victim: Path) -> None:
    path.mkdir()


def unix_socket(path: Path, _victim: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(path.parent, os.O_RDONLY)
        try:  # its whole path may be longer than an address
            listener.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


FOREIGN = [link, dangling, hard_link, fifo, directory, unix_socket]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "id_rsa"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def files(tmp_path: Path) -> PrivateDirectory:
    found = PrivateDirectory(tmp_path / "kept")
    found.make()
    return found


@pytest.mark.parametrize("put", FOREIGN)
def test_what_is_no_file_of_ours_alone_is_not_written(
    put: Callable[[Path, Path], None], victim: Path, files: PrivateDirectory
) -> None:
    put(files.path / "trace", victim)
    for flags in (WRITING, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        with pytest.raises(PermissionError, match="remove it"):
            files.open("trace", flags)
    with pytest.raises(PermissionError):
        files.touch("trace")
    assert victim.read_bytes() == SECRET
    assert not victim.with_name("not there").exists()


@pytest.mark.parametrize("put", [each for each in FOREIGN if each is not hard_link])
def test_what_is_no_file_is_not_read_and_does_not_hang(
    put: Callable[[Path, Path], None], victim: Path, files: PrivateDirectory
) -> None:
    put(files.path / "trace", victim)
    with pytest.raises(PermissionError):
        files.read("trace", 100)


@pytest.mark.parametrize("put", [link, dangling, hard_link, fifo])
def test_replacing_and_removing_touch_the_name_and_not_what_it_leads_to(
    put: Callable[[Path, Path], None], victim: Path, files: PrivateDirectory
) -> None:
    put(files.path / "meta", victim)
    files.replace("meta", b"ours")
    assert files.read("meta", 100) == b"ours"
    put(files.path / "cancel", victim)
    files.remove("cancel")
    files.remove("cancel")
    assert victim.read_bytes() == SECRET
    assert sorted(os.listdir(files.path)) == ["meta"]


def test_new_directories_and_files_are_their_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        files = PrivateDirectory(tmp_path / "a" / "b")
        files.make()
        files.touch("one")
        files.replace("two", b"")
    finally:
        os.umask(old)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "a").rglob("*")}
    assert modes == {"b": 0o700, "one": 0o600, "two": 0o600}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_directory_that_others_can_write_is_refused_and_the_error_says_what_to_do(
    mode: int, files: PrivateDirectory
) -> None:
    files.path.chmod(mode)
    for call in (files.make, lambda: files.touch("x"), lambda: files.replace("x", b"")):
        with pytest.raises(PermissionError, match="chmod go-w"):
            call()
    assert os.listdir(files.path) == []


def test_a_link_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    files = PrivateDirectory(tmp_path / "link")
    for call in (files.make, lambda: files.read("x", 1), lambda: files.exists("x")):
        with pytest.raises(PermissionError, match="the directory's own path"):
            call()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_and_directories_of_another_user_are_refused(files: PrivateDirectory) -> None:
    files.touch("trace")
    os.chown(files.path / "trace", 12345, 12345)
    with pytest.raises(PermissionError, match="belongs to user 12345"):
        files.open("trace", os.O_RDWR)
    os.chown(files.path, 12345, 12345)
    with pytest.raises(PermissionError, match="belongs to user 12345"):
        files.make()


def test_a_shared_directory_may_be_sticky_and_not_writable_by_everybody(tmp_path: Path) -> None:
    shared = PrivateDirectory(tmp_path / "shared", shared=True)
    shared.make()
    shared.path.chmod(0o1777)
    shared.prepare_database("runs.db")
    shared.path.chmod(0o777)
    with pytest.raises(PermissionError, match="chmod o-w"):
        shared.prepare_database("runs.db")


LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""


@pytest.mark.parametrize("suffix", ["", "-shm"])
def test_checking_a_database_keeps_the_locks_on_its_files(tmp_path: Path, suffix: str) -> None:
    files = PrivateDirectory(tmp_path, shared=True)
    files.prepare_database("runs.db")
    path = tmp_path / f"runs.db{suffix}"
    with path.open("ab") as locked:
        fcntl.lockf(locked, fcntl.LOCK_EX)
        files.prepare_database("runs.db")
        files.check_database("runs.db")
        other = subprocess.run(
            [sys.executable, "-c", LOCK, str(path)], capture_output=True, text=True, check=False
        )
    assert "BlockingIOError" in other.stderr


def test_a_link_beside_a_database_is_refused(tmp_path: Path, victim: Path) -> None:
    files = PrivateDirectory(tmp_path / "kept", shared=True)
    files.make()
    files.prepare_database("runs.db")
    (files.path / "runs.db-wal").symlink_to(victim)
    with pytest.raises(PermissionError, match="symbolic link"):
        files.prepare_database("runs.db")


def test_a_file_larger_than_the_limit_is_not_read(files: PrivateDirectory) -> None:
    files.touch("sparse")
    os.truncate(files.path / "sparse", 1 << 40)
    with pytest.raises(OSError, match="larger than 100 bytes"):
        files.read("sparse", 100)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd"])
def test_a_name_is_one_component(name: str, files: PrivateDirectory) -> None:
    with pytest.raises(ValueError, match="not the name of a file"):
        files.open(name)
