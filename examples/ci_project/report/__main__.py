"""``python3 -m report FILE COLUMN`` prints the sum."""

import csv
import sys


def main() -> int:
    if len(sys.argv) != 3:
        print("usage: python3 -m report FILE COLUMN", file=sys.stderr)
        return 2
    path, column = sys.argv[1:]
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and column not in rows[0]:
        print(f"{path} has no column {column!r}", file=sys.stderr)
        return 1
    print(sum(float(row[column]) for row in rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
