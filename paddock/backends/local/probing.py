"""What this machine can enforce, found by making a sandbox with all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from paddock._concurrency import acquire
from paddock.backends.isolation.probe import Prober
from paddock.backends.local.sandbox import LocalSandbox
from paddock.backends.local.starting import Wanted, start
from paddock.resources import Resources

if TYPE_CHECKING:
    from paddock.backends.isolation.levels import Enforced

__all__ = ["probe", "prober", "try_level"]

TRIAL = Resources(memory=1024**3, cpu=1.0)
"""What the probe asks for, to see whether it is available."""


async def probe() -> Enforced:
    """Return the strongest isolation that works on this machine; see `Prober.strongest`."""
    return await prober.strongest()


async def try_level(found: Enforced) -> None:
    """Make a sandbox with all that was `found`, and end it."""
    resources = replace(
        Resources(),
        **{place.controller: getattr(TRIAL, place.controller) for place in found.places},
    )
    sandbox = await acquire(start(Wanted(resources=resources), found), LocalSandbox.aclose)
    await sandbox.aclose()


prober = Prober(try_level)
