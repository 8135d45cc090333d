import unittest
from datetime import date

from billing.months import add_months


class Months(unittest.TestCase):
    def test_a_month_later_is_the_same_day(self) -> None:
        self.assertEqual(add_months(date(2023, 3, 15), 1), date(2023, 4, 15))

    def test_a_short_month_ends_early(self) -> None:
        self.assertEqual(add_months(date(2023, 1, 31), 1), date(2023, 2, 28))
        self.assertEqual(add_months(date(2024, 1, 31), 1), date(2024, 2, 29))

    def test_december_is_followed_by_january(self) -> None:
        self.assertEqual(add_months(date(2023, 12, 1), 1), date(2024, 1, 1))
