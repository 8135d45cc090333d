"""Limits that cannot be are refused where they are said, whatever the backend."""

from __future__ import annotations

from typing import Any

import pytest

from paddock import ConfigError, DockerBackend
from paddock.sandbox import Resources

WRONG = [0, -1, float("nan"), float("inf"), True, "1"]


@pytest.mark.parametrize("cpu", WRONG)
def test_a_share_of_the_processor_is_a_finite_number_above_zero(cpu: Any) -> None:
    with pytest.raises(ConfigError, match=r"resources: cpu=.*: give a number above 0"):
        Resources(cpu=cpu)


@pytest.mark.parametrize("value", [*WRONG, 1.5e9, 2.0])
@pytest.mark.parametrize("name", ["memory", "pids", "disk", "shm_size"])
def test_what_is_counted_is_a_whole_number_above_zero(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"resources: {name}=.*: give a whole number above 0"):
        Resources(**{name: value})


def test_shared_memory_is_a_quarter_of_the_memory_and_never_more_than_it() -> None:
    assert Resources().shm_bytes(4096) == 1024
    assert Resources(memory=400).shm_bytes(4096) == 100
    assert Resources(memory=400, shm_size=400).shm_bytes(4096) == 400
    for refused in ({"memory": 400}, {"memory": 4 * 1024**3, "shm_size": 5 * 1024**3}):
        with pytest.raises(ConfigError, match=r"shm_size=\d+ is more than the memory"):
            Resources(**{"shm_size": 401, **refused})
    with pytest.raises(ConfigError, match=r"shm_size=\d+ is more than the memory, 4294967296"):
        DockerBackend(resources=Resources(shm_size=5 * 1024**3))


def test_what_can_be_is_taken() -> None:
    assert Resources(cpu=1, memory=1, pids=1, disk=1).cpu == 1
    assert Resources(cpu=1e-9) == Resources(cpu=1e-9, memory=None)
