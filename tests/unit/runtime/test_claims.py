"""Claims: who holds one, for how long, and whose process has died."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from paddock.runtime.core.claims import CLAIM, Claim

TAKE = "from paddock.runtime.core.claims import Claim; print(Claim.take().holder, flush=True)"


def process(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"{TAKE}; {code}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def holder(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_claim_of_a_process_that_lives_holds_until_its_end() -> None:
    claim = Claim.take()
    assert claim.holds
    assert 0 < claim.left <= CLAIM
    assert not replace(claim, until=0.0).holds
    assert replace(claim, until=0.0).renewed().holds
    assert claim.token != Claim.take().token


def test_the_claim_of_a_process_that_has_died_holds_no_longer() -> None:
    with process("input()") as other:
        claim = replace(Claim.take(), holder=holder(other))
        assert claim.holds
        other.kill()
        other.wait(60)
    assert claim.left == 0


def test_a_process_that_nobody_has_waited_for_is_dead() -> None:
    with process("pass") as other:
        claim = replace(Claim.take(), holder=holder(other))
        assert other.stdout is not None
        assert other.stdout.read() == "", "it has ended, or is about to"
        while claim.holds:
            assert other.returncode is None, "only its state tells"


def test_a_process_that_has_the_id_of_a_dead_one_is_another_one() -> None:
    claim = Claim.take()
    place, _, started = claim.holder.rpartition("@")
    assert not replace(claim, holder=f"{place}@{int(started) - 1}").holds


@pytest.mark.parametrize("holder", ["another-boot.4026531836/1@1", "elsewhere", ""])
def test_of_a_process_that_cannot_be_seen_the_time_decides(holder: str) -> None:
    claim = replace(Claim.take(), holder=holder)
    assert claim.holds
    assert not replace(claim, until=0.0).holds
