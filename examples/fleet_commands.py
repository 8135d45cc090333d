"""A command for each of many tasks, each in a sandbox of its own; what fails is told apart."""

import asyncio

from paddock import Fleet, LocalBackend

TASKS = [{"id": f"page-{number}", "input": "x" * number} for number in range(1, 7)]
COMMAND = ["sh", "-c", 'test ${#1} -ne 4 && printf %s "$1" | wc -c > size', "sh", "{input}"]


async def main() -> None:
    fleet = Fleet(LocalBackend(), limit=3, artifacts=["size"], verify="test -s size")
    async with fleet:
        async for result in fleet.map(COMMAND, TASKS):
            if result.directory is not None and result.status == "completed":
                print(result.key, (result.directory / "artifacts" / "size").read_text().strip())
            else:
                print(result.key, result.fault)


asyncio.run(main())
