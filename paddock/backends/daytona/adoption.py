"""A sandbox goes by itself until its maker has it.

Daytona deletes no sandbox that it still makes, for as long as that takes. So one is made to stop
soon and to go when it is stopped, whatever its recipe says, and becomes what the recipe says when
its guest has answered. A process that ends before leaves nothing that bills for long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from paddock.backends.daytona.plan import Plan
    from paddock.backends.daytona.service import Service

__all__ = ["LABEL", "adopt", "is_unadopted", "label", "until_adopted"]

LABEL = "dev.paddock.unadopted"
"""Of a sandbox without a lease: the minutes after which it stops, unless its maker has it."""
MINUTES = 7
"""Until a sandbox stops that runs and has no maker: guests are there within one. No number that
people give, for it is how a sandbox is known that nobody has."""
NEVER = -1
AT_ONCE = 0


class Intervals(NamedTuple):
    """In minutes: without use until it is stopped (0 is never), and then until it is deleted."""

    stop: int
    delete: int


def wanted(plan: Plan) -> Intervals:
    """Return what the recipe says."""
    return Intervals(plan.silence or 0, AT_ONCE if plan.goes_when_stopped else NEVER)


def until_adopted(plan: Plan) -> Intervals:
    """Return what a sandbox is made with."""
    final = wanted(plan)
    if plan.lease is not None and final.stop <= MINUTES:
        return final
    return Intervals(MINUTES + 1 if final.stop == MINUTES else MINUTES, AT_ONCE)


def label(plan: Plan) -> dict[str, str]:
    """Return the label by which others see whether its maker has it."""
    return {} if plan.lease is not None else {LABEL: str(until_adopted(plan).stop)}


async def adopt(service: Service, native: Any, plan: Plan) -> None:
    """Have a sandbox live as the recipe says. What stops it soon changes last, see `label`."""
    made, final = until_adopted(plan), wanted(plan)
    what = "telling Daytona how long a sandbox lives"
    if made.delete != final.delete:
        await service.call(what, lambda: native.set_auto_delete_interval(final.delete))
    if made.stop != final.stop:
        await service.call(what, lambda: native.set_autostop_interval(final.stop))


def is_unadopted(native: Any) -> bool:
    """Whether a sandbox without a lease was never its maker's."""
    told = (native.labels or {}).get(LABEL)
    if told is None or not told.isdigit() or native.auto_stop_interval is None:
        return False
    now = (float(native.auto_stop_interval), native.auto_delete_interval)
    return now == (float(told), AT_ONCE)
