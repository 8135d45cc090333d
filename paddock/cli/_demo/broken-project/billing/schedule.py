"""The days on which a subscription is due."""

from collections.abc import Iterator
from datetime import date

from billing.months import add_months


def due_dates(start: date, count: int) -> Iterator[date]:
    """The first `count` due dates of a monthly subscription that began on `start`."""
    due = start
    for _ in range(count):
        yield due
        due = add_months(due, 1)
