"""Turn data/vat.csv, which people edit, into billing/rates.json, which the package reads."""

import csv
import json
from pathlib import Path

root = Path(__file__).parent.parent

with (root / "data" / "vat.csv").open(newline="") as file:
    rates = {row["country"]: row["percent"] for row in csv.DictReader(file)}

(root / "billing" / "rates.json").write_text(json.dumps(rates, indent=2) + "\n")
print(f"wrote {len(rates)} rates")
