"""Counting in months, which are of different lengths."""

import calendar
from datetime import date


def add_months(day: date, months: int) -> date:
    """The same day `months` later; the last of the month where it is shorter than that."""
    year, index = divmod(day.year * 12 + day.month - 1 + months, 12)
    last = calendar.monthrange(year, index + 1)[1]
    return date(year, index + 1, min(day.day, last))
