"""What an engine can do with containers, from what it tells of itself."""

from __future__ import annotations

import pytest

from paddock import Unsupported
from paddock.backends.docker.engine.features import from_info, refuse
from paddock.sandbox import Capability, Resources

LIMITS = {Capability.LIMIT_MEMORY, Capability.LIMIT_CPU, Capability.LIMIT_PIDS}


def told(driver: str, *controllers: str) -> dict[str, object]:
    flags = {name: name in controllers for name in ("MemoryLimit", "CpuCfsQuota", "PidsLimit")}
    return {"CgroupDriver": driver, **flags}


def test_an_engine_with_all_controllers_does_all() -> None:
    for driver in ("cgroupfs", "systemd"):
        found = from_info(told(driver, "MemoryLimit", "CpuCfsQuota", "PidsLimit"))
        assert found == LIMITS | {Capability.PAUSE, Capability.STATS}
        refuse(Resources(memory=2**30, cpu=1.5, pids=100), found)


def test_an_engine_without_control_groups_does_nothing() -> None:
    assert from_info(told("none")) == frozenset()


def test_a_controller_that_is_not_given_to_its_user_is_missed_alone() -> None:
    found = from_info(told("systemd", "MemoryLimit", "PidsLimit"))
    refuse(Resources(memory=2**30, pids=100), found)
    with pytest.raises(Unsupported, match="a limit on CPU; the engine lacks"):
        refuse(Resources(cpu=1.5), found)
    assert found >= {Capability.PAUSE, Capability.STATS}


def test_what_cannot_be_counted_is_not_told() -> None:
    found = from_info(told("cgroupfs", "CpuCfsQuota", "PidsLimit"))  # cgroup_disable=memory
    with pytest.raises(Unsupported, match="a limit on memory"):
        refuse(Resources(memory=2**30), found)
    assert Capability.STATS not in found
    assert Capability.PAUSE in found
