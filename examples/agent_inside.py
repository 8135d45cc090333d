"""Run an agent inside a sandbox, talk to it from outside, and take out what it wrote."""

import asyncio

from paddock import (
    ArtifactUploadRequestMessageInterface,
    ArtifactUploadResult,
    AssistantMessageInterface,
    LocalBackend,
    QueryOptions,
    serve,
)

SCRIPT = """\
- text: I count the words.
  tool_calls:
    - name: bash
      arguments: {command: "wc -w < poem.txt > out/count.txt"}
- text: There are 4 words.
"""


async def show(message: AssistantMessageInterface) -> None:
    print("agent:", *message.text_blocks)


async def main() -> None:
    store: dict[str, bytes] = {}

    async def put(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(x for x in head.splitlines() if x.lower().startswith("content-length"))
        store[head.split()[1]] = await reader.readexactly(int(length.split()[1]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(put, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def where(request: ArtifactUploadRequestMessageInterface) -> ArtifactUploadResult:
        url = f"{address}/{request.relative_path}"  # a presigned URL of a real store
        return ArtifactUploadResult(presigned_url=url, content_type="text/plain")

    options = QueryOptions(
        system_prompt="You count words.",
        model="scripted",
        artifacts_dirs=["out"],
        on_assistant_message=show,
        on_artifact_upload_request=where,
    )
    async with server, LocalBackend(isolation="none").sandbox() as sandbox:
        await sandbox.fs.write_text("poem.txt", "so much depends upon\n")
        await sandbox.fs.write_text("script.yaml", SCRIPT)
        async with serve(sandbox, agent="scripted:script.yaml") as client:
            result = await client.query("How many words are in poem.txt?", options)
    print("result:", result.data)
    print("artifacts:", store)


asyncio.run(main())
