"""The same commands in many sandboxes at once; each is gone when its command is done."""

import asyncio

from paddock import LocalBackend


async def square(backend: LocalBackend, number: int) -> int:
    async with backend.sandbox() as sandbox:
        result = await sandbox.exec(
            ["sh", "-c", "echo $(($1 * $1))", "sh", str(number)], check=True
        )
    return int(result.stdout)


async def main() -> None:
    backend = LocalBackend()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(square(backend, number)) for number in range(8)]
    print([task.result() for task in tasks])


asyncio.run(main())
