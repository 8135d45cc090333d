"""What the guest writes and checks where an engine sets up no network."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from paddock.backends.guest.inside import unconnected

if TYPE_CHECKING:
    from pathlib import Path

UP, DOWN = "0x9\n", "0x8\n"
OLD = "127.0.0.1 of-the-image\n"
NEW = "127.0.0.1 localhost\n"


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "hosts"
    path.write_text(OLD)
    path.chmod(0o600)
    monkeypatch.setattr(unconnected, "HOSTS", str(path))
    monkeypatch.setattr(unconnected, "INTERFACES", str(tmp_path / "net"))
    (tmp_path / "net").mkdir()
    return path


def interfaces(hosts: Path, **flags: str) -> None:
    for name, text in flags.items():
        (hosts.parent / "net" / name).mkdir()
        (hosts.parent / "net" / name / "flags").write_text(text)


def test_it_writes_the_hosts_where_loopback_alone_is_up(hosts: Path) -> None:
    interfaces(hosts, lo=UP, tunl0=DOWN)
    (hosts.parent / "net" / "bonding_masters").write_text("")
    assert unconnected.begin(NEW) is None
    assert hosts.read_text() == NEW
    assert hosts.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        ({"lo": UP, "eth0": UP}, "its interfaces that are up: eth0, lo"),
        ({"lo": DOWN}, "its interfaces that are up: none"),
        ({}, "its interfaces that are up: none"),
    ],
)
def test_it_reports_any_other_network_and_writes_nothing(
    hosts: Path, flags: dict[str, str], fault: str
) -> None:
    interfaces(hosts, **flags)
    assert unconnected.begin(NEW) == fault
    assert hosts.read_text() == OLD


def test_it_reports_what_cannot_be_seen_or_written(hosts: Path) -> None:
    interfaces(hosts, lo=UP)
    hosts.unlink()
    hosts.mkdir()
    assert "Is a directory" in (unconnected.begin(NEW) or "")
    (hosts.parent / "net").rename(hosts.parent / "hidden")
    assert "No such file" in (unconnected.begin(NEW) or "")


def test_it_waits_for_no_pipe_and_follows_no_link(hosts: Path, tmp_path: Path) -> None:
    interfaces(hosts, lo=UP)
    hosts.unlink()
    os.mkfifo(hosts)
    assert unconnected.begin(NEW) is None
    hosts.unlink()
    (tmp_path / "other").write_text(OLD)
    hosts.symlink_to(tmp_path / "other")
    assert unconnected.begin(NEW) is None
    assert (tmp_path / "other").read_text() == OLD
    assert hosts.read_text() == NEW
