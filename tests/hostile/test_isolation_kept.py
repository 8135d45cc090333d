"""A sandbox keeps the fence that was asked for: no shortage lowers it, no record opens it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from paddock import ConfigError, IsolationUnavailable, LocalBackend, SandboxLost, Unsupported
from paddock.backends import lease
from paddock.backends.guest.inside import landlock
from paddock.backends.isolation import bubblewrap, cgroups
from paddock.backends.isolation.probe import Prober
from paddock.backends.local import probing
from paddock.network import Allow
from paddock.sandbox import Capability
from paddock.testing.conformance.watch import make_passable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from paddock.backends.isolation.levels import Enforced, Isolation
    from paddock.backends.local.starting import Network
    from tests.conftest import Require

FENCES = {Capability.ISOLATION, Capability.FILE_ISOLATION}


@pytest.fixture(autouse=True)
def _own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records of this test's sandboxes are its own, and its probe starts anew."""
    (tmp_path / "tmp").mkdir()
    make_passable(tmp_path / "tmp")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(probing, "prober", Prober(probing.try_level))


# ---------------------------------------------------------------- a passing failure

SHORT_OF_DESCRIPTORS = """
import asyncio, os, resource, sys
from paddock import LocalBackend
from paddock.sandbox import Capability
async def fence():
    try:
        async with LocalBackend(isolation="auto").sandbox() as sandbox:
            return "isolation" if Capability.ISOLATION in sandbox.capabilities else "lower"
    except OSError as error:
        return error.strerror
async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    for fd in held[:int(sys.argv[1])]:
        os.close(fd)
    short = await fence()
    for fd in held[int(sys.argv[1]):]:
        os.close(fd)
    print(short + "," + await fence())
asyncio.run(main())
"""


@pytest.mark.parametrize("left", [2, 4, 6, 8])
def test_a_lack_of_descriptors_never_lowers_the_fence(left: int, require: Require) -> None:
    require("bubblewrap", bubblewrap.program(), "it is not installed")
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_DESCRIPTORS, str(left)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    short, _, later = done.stdout.strip().rpartition(",")
    # The last one is what tempfile makes of the lack.
    said = ("isolation", "Too many open files", "No usable temporary directory")
    assert short.startswith(said), done.stderr
    assert later == "isolation"


@pytest.mark.parametrize(
    "failure",
    [
        OSError(12, "Cannot allocate memory"),
        OSError(11, "Resource temporarily unavailable"),
        OSError(28, "No space left on device", "/tmp/paddock-0"),
        SandboxLost("its guest did not answer within 20 s"),
        SandboxLost("its guest ended (137)"),
        SandboxLost("its guest ended (1): bwrap: Can't fork: Resource temporarily unavailable"),
        SandboxLost("its guest ended (1): bwrap: Creating new namespace failed: No space left"),
    ],
    ids=str,
)
@pytest.mark.parametrize("level", ["bubblewrap", "landlock", "auto"])
async def test_a_passing_failure_is_an_error_and_is_forgotten(
    failure: Exception, level: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bubblewrap, "program", lambda: "/usr/bin/bwrap")
    monkeypatch.setattr(landlock, "abi", lambda: 7)
    failures = [failure]

    async def start(found: Enforced) -> None:
        if failures:
            raise failures.pop()

    prober = Prober(start)
    with pytest.raises(type(failure)) as raised:
        await prober.find(level)
    assert raised.value is failure
    assert (await prober.find(level)).level == ("bubblewrap" if level == "auto" else level)


@pytest.mark.parametrize(
    "failure",
    [
        "bwrap: setting up uid map: Permission denied",
        "bwrap: No permissions to create new namespace, likely because the kernel does not allow",
        "bwrap: Creating new namespace failed: Operation not permitted",
        "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted",
        "bwrap: Can't mount proc on /newroot/proc: Operation not permitted",
        "bwrap: Unknown option --disable-userns",
        "paddock: unshare: Operation not permitted",
    ],
)
async def test_what_the_kernel_refuses_is_settled_and_tried_once(
    failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bubblewrap, "program", lambda: "/usr/bin/bwrap")
    monkeypatch.setattr(landlock, "abi", lambda: 7)
    monkeypatch.setattr(cgroups, "place", lambda controller: "none here")
    tried = []

    async def start(found: Enforced) -> None:
        tried.append(found.level)
        if found.level == "bubblewrap":
            raise SandboxLost(f"its guest ended (1): {failure}")

    prober = Prober(start)
    for _ in range(2):
        assert (await prober.find("auto")).level == "landlock"
        with pytest.raises(IsolationUnavailable, match="--isolation none"):
            await prober.find("bubblewrap")
    assert tried == ["bubblewrap", "landlock"]


def test_a_lack_of_descriptors_is_no_lack_of_control_groups() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        with pytest.raises(OSError, match="Too many open files"):
            cgroups.place("memory")


# ------------------------------------------------------------------- who chooses none


@pytest.fixture
def without_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "program", lambda: None)
    monkeypatch.setattr(landlock, "abi", lambda: 0)


@pytest.mark.usefixtures("without_isolation")
async def test_nothing_runs_without_isolation_unless_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for recipe in (LocalBackend(), LocalBackend(isolation="auto"), LocalBackend(setup=["true"])):
        with pytest.raises(IsolationUnavailable) as raised:
            await recipe.create()
        for word in ("install", "isolation='none'", "--isolation none", "PADDOCK_ISOLATION=none"):
            assert word in str(raised.value)
    monkeypatch.setenv("PADDOCK_ISOLATION", "none")
    async with LocalBackend().sandbox() as sandbox:
        assert not sandbox.capabilities & FENCES
    with pytest.raises(IsolationUnavailable):
        await LocalBackend(isolation="auto").create()  # an argument takes precedence


@pytest.mark.usefixtures("without_isolation")
async def test_on_another_system_the_error_says_how_to_choose_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(IsolationUnavailable, match=r"needs Linux.*PADDOCK_ISOLATION=none"):
        await LocalBackend().create()


async def test_a_setting_that_is_no_level_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_ISOLATION", "nnoe")
    with pytest.raises(ConfigError, match="PADDOCK_ISOLATION='nnoe': give auto, bubblewrap"):
        await LocalBackend().create()


@pytest.mark.parametrize("network", ["none", Allow(hosts=["example.org"])], ids=str)
async def test_landlock_refuses_networks_that_it_cannot_close(
    network: Network, require: Require
) -> None:
    require("landlock", landlock.abi(), "the kernel has no Landlock")
    with pytest.raises(Unsupported, match="UDP"):
        await LocalBackend(isolation="landlock", network=network).create()


# ---------------------------------------------------------------------------- records


def _link(folder: Path, base: Path) -> Path:
    link = folder / "link"
    link.symlink_to(base.parent)
    return link


@pytest.mark.parametrize(
    "choose",
    [
        lambda folder, base: base.parent,
        lambda folder, base: base,
        lambda folder, base: folder,
        lambda folder, base: Path("/"),
        lambda folder, base: base / "below",
        lambda folder, base: base.parent / ".." / "tmp",
        _link,
    ],
    ids=["around", "itself", "above", "root", "below", "dots", "link"],
)
async def test_a_working_directory_with_our_records_is_refused(
    choose: Callable[[Path, Path], Path], tmp_path: Path, require: Require
) -> None:
    require("landlock", landlock.abi() or bubblewrap.program(), "there is no isolation")
    path = choose(tmp_path, lease.base_directory())
    with pytest.raises(ConfigError, match="contains Paddock's own records"):
        await LocalBackend(working_dir=str(path)).create()
    assert list(lease.base_directory().glob("*")) == []


def test_a_mount_that_shows_our_records_is_noticed(tmp_path: Path, require: Require) -> None:
    require("root", os.getuid() == 0, "only root mounts")
    (tmp_path / "work" / "mounted").mkdir(parents=True)
    base = lease.base_directory()
    check = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        'from paddock.backends import lease; lease.check_outside("working_dir", sys.argv[2])'
    )
    for mounted in (base.parent, base):
        done = subprocess.run(
            [
                *("unshare", "--mount", "sh", "-ec"),
                'mount --bind "$1" "$2/mounted"; exec "$3" -c "$4" "$5" "$2"',
                *("sh", str(mounted), str(tmp_path / "work"), sys.executable, check),
                str(base.parent),
            ],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "contains Paddock's own records" in done.stderr


@pytest.fixture
def canary_group(require: Require) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A control group of ours that is no sandbox's, with a process in it."""
    place = cgroups.place("pids")
    require("cgroups", isinstance(place, cgroups.Place), str(place))
    assert isinstance(place, cgroups.Place)
    group = place.path / f"paddock-test-{os.getpid()}"
    group.mkdir()
    with subprocess.Popen(["sleep", "600"]) as canary:
        try:
            (group / "cgroup.procs").write_text(str(canary.pid))
            yield group, canary
        finally:
            canary.kill()
            canary.wait()
            cgroups.remove([group])


def test_a_forged_record_kills_nothing(
    canary_group: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    group, canary = canary_group
    base, name = lease.base_directory(), "aaaaaaaaaaaa"
    for path in (
        group,
        f"{group}/../{group.name}",
        f"{group.parent}/paddock-{name}/../{group.name}",
    ):
        record = asdict(lease.Record(pid=1, groups=(str(path),)))
        forged = base / f"{name}.lock"
        forged.touch(mode=0o600)
        forged.write_text(json.dumps(record))
        (base / name).mkdir()
        assert [path.name for path in lease.sweep()] == [name]
        assert canary.poll() is None
    assert group.is_dir()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10000,
        '{"groups": [1]}',
        '{"groups": ["/x"], "created": 1e300}',
        '{"groups": ["/x"], "labels": 7}',
        '{"groups": ["/x"], "pid": "1"}',
        '{"groups": [], "created": NaN}',
    ],
)
def test_a_record_that_is_not_ours_says_nothing(text: str) -> None:
    base = lease.base_directory()
    lock = base / "aaaaaaaaaaaa.lock"
    lock.touch(mode=0o600)
    lock.write_text(text)
    (base / "aaaaaaaaaaaa").mkdir()
    assert [record for _, record in lease.records()] == [lease.Record()]
    assert asyncio.run(LocalBackend().list())[0].id == "aaaaaaaaaaaa"


def test_links_pipes_and_files_of_others_are_no_records(tmp_path: Path) -> None:
    base = lease.base_directory()
    victim = tmp_path / "victim"
    victim.write_text("{}")
    (base / "aaaaaaaaaaaa.lock").symlink_to(victim)
    os.link(victim, base / "bbbbbbbbbbbb.lock")
    os.mkfifo(base / "cccccccccccc.lock", 0o600)
    (base / "dddddddddddd.lock").write_text("{}")
    (base / "dddddddddddd.lock").chmod(0o666)
    (base / "other.lock").write_text("{}")
    for name in "abcd":
        (base / (12 * name)).mkdir()
    assert lease.sweep() == []
    assert lease.records() == []
    assert victim.read_text() == "{}"


def test_a_directory_of_records_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (Path(tempfile.gettempdir()) / f"paddock-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="is not a directory of ours"):
        lease.base_directory()
