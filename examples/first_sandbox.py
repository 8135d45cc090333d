"""Make a sandbox on this machine, use it, and have it taken down."""

import asyncio

from paddock import LocalBackend


async def main() -> None:
    backend = LocalBackend(env_vars={"A": "1"}, setup=["mkdir data"])
    async with backend.sandbox() as sandbox:
        result = await sandbox.exec("echo $A; echo oops >&2; exit 3")
        print(result)

        await sandbox.fs.write_text("data/hello.txt", "hello\n")
        print(await sandbox.exec(["wc", "-c", "data/hello.txt"], check=True))

        for match in (await sandbox.fs.grep("hel+o")).lines:
            print(f"{match.path}:{match.line}: {match.text}")


asyncio.run(main())
