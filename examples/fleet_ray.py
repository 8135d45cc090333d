"""A batch on the nodes of a Ray cluster; without an address, on one that this machine starts.

With more machines: ``ray start --head`` on one and ``ray start --address HOST:6379`` on others,
each with ``--resources '{"paddock_slots": 16}'``, and Paddock installed on all of them.
"""

import asyncio
import os
import sys
from typing import Any

from paddock import Fleet, LocalBackend, RayPlacement, Sandbox

TASKS = [{"id": f"number-{number}", "n": number} for number in (12, 35, 97)]


async def factors(sandbox: Sandbox, task: Any) -> dict[str, Any]:
    """Runs on a node of the cluster, whose sandbox this is."""
    done = await sandbox.exec(["python3", "-c", PROGRAM, str(task["n"])], check=True)
    return {"factors": done.stdout.split()}


PROGRAM = """
import sys
number, divisor = int(sys.argv[1]), 2
while number > 1:
    while number % divisor == 0:
        print(divisor)
        number //= divisor
    divisor += 1
"""


async def main(address: str = "local") -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    placement = RayPlacement(address=address, slots=2)
    async with Fleet(LocalBackend(), limit=2, placement=placement) as fleet:
        results = [result async for result in fleet.map(factors, TASKS)]
    for result in sorted(results, key=lambda each: each.key):
        print(result.key, result.result or result.error)


asyncio.run(main(*sys.argv[1:]))
