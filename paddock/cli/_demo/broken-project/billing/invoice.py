"""One invoice: its lines, the VAT on them, and the instalments it is paid in."""

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib.resources import files

from billing.money import rounded, split
from billing.schedule import due_dates


@dataclass(frozen=True)
class Line:
    text: str
    price: Decimal
    quantity: int = 1

    @property
    def total(self) -> Decimal:
        return rounded(self.price * self.quantity)


@dataclass(frozen=True)
class Invoice:
    country: str
    lines: tuple[Line, ...]

    @property
    def net(self) -> Decimal:
        return sum((line.total for line in self.lines), Decimal())

    @property
    def gross(self) -> Decimal:
        rates = json.loads(files("billing").joinpath("rates.json").read_text())
        return self.net + rounded(self.net * Decimal(rates[self.country]) / 100)

    def instalments(self, start: date, count: int) -> list[tuple[date, Decimal]]:
        """The gross amount in `count` monthly payments, the first one on `start`."""
        return list(zip(due_dates(start, count), split(self.gross, count), strict=True))
