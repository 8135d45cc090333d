import unittest
from datetime import date
from decimal import Decimal

from billing.invoice import Invoice, Line


class Invoices(unittest.TestCase):
    def setUp(self) -> None:
        self.invoice = Invoice(
            "CH", (Line("seat", Decimal("19.90"), 5), Line("set-up", Decimal(40)))
        )

    def test_vat_is_added_to_the_net_amount(self) -> None:
        self.assertEqual(self.invoice.net, Decimal("139.50"))
        self.assertEqual(self.invoice.gross, Decimal("150.80"))

    def test_instalments_are_due_in_the_middle_of_each_month(self) -> None:
        days = [day for day, _ in self.invoice.instalments(date(2023, 1, 15), 3)]
        self.assertEqual(days, [date(2023, 1, 15), date(2023, 2, 15), date(2023, 3, 15)])

    def test_instalments_are_due_at_the_end_of_each_month(self) -> None:
        days = [day for day, _ in self.invoice.instalments(date(2023, 1, 31), 4)]
        self.assertEqual(
            days, [date(2023, 1, 31), date(2023, 2, 28), date(2023, 3, 31), date(2023, 4, 30)]
        )

    def test_instalments_add_up_to_the_gross_amount(self) -> None:
        amounts = [amount for _, amount in self.invoice.instalments(date(2023, 1, 31), 4)]
        self.assertEqual(sum(amounts), self.invoice.gross)
