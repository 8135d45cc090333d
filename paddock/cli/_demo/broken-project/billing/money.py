"""Amounts of money, as Decimals with two places."""

from decimal import ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")


def rounded(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


def split(amount: Decimal, parts: int) -> list[Decimal]:
    """`amount` in `parts` that differ by a cent at most and add up to it exactly."""
    cents = int(amount / CENT)
    share, left = divmod(cents, parts)
    return [CENT * (share + (number < left)) for number in range(parts)]
