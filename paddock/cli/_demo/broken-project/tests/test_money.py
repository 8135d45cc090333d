import unittest
from decimal import Decimal

from billing.money import rounded, split


class Money(unittest.TestCase):
    def test_half_a_cent_is_rounded_up(self) -> None:
        self.assertEqual(rounded(Decimal("2.675")), Decimal("2.68"))

    def test_no_cent_is_lost_in_a_split(self) -> None:
        parts = split(Decimal("100.00"), 3)
        self.assertEqual(parts, [Decimal("33.34"), Decimal("33.33"), Decimal("33.33")])
        self.assertEqual(sum(parts), Decimal("100.00"))
