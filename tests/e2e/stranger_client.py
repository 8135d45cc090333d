"""Drives one published client of the in-sandbox wire, in the environment of those.

Run as ``python stranger_client.py FOLDER URL STORE ARTIFACTS``. What the client's caller gets is
printed as one JSON object. A call that hangs is a failure: no published client may.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from typing import Any

DEADLINE = 60.0
"""Seconds for a call that takes less than one, on a machine that is busy."""

FOLDER, URL, STORE, ARTIFACTS = sys.argv[1:5]
sys.path.insert(0, FOLDER)
try:
    import runtimeuse_client as package  # type: ignore[import-not-found]
except ImportError:
    import runtimeuse as package  # type: ignore[import-not-found]

IS_OLD = not hasattr(package, "QueryOptions")
SCHEMA = '{"type": "json_schema", "schema": {"type": "object"}}'


class Caller:
    """Calls the client as the programs of its time did."""

    def __init__(self) -> None:
        self.said: list[list[str]] = []
        self.asked: list[str] = []

    async def on_assistant(self, message: Any) -> None:
        self.said.append(message.text_blocks)

    async def on_artifact(self, request: Any) -> Any:
        self.asked.append(request.filename)
        url = f"{STORE}/{request.filename}"
        if IS_OLD:
            return url, "text/plain"
        return package.ArtifactUploadResult(presigned_url=url, content_type="text/plain")

    async def query(self, prompt: str, **options: Any) -> Any:
        return await (self.invoke if IS_OLD else self.ask)(prompt, **options)

    async def ask(self, prompt: str, on: Any = None, **options: Any) -> Any:
        if options.pop("with_artifacts", False):
            options |= self.artifacts(package.QueryOptions)
        client = on or package.RuntimeUseClient(ws_url=URL)
        found = await client.query(
            prompt,
            package.QueryOptions(
                system_prompt="s",
                model="m",
                timeout=DEADLINE,
                on_assistant_message=self.on_assistant,
                **options,
            ),
        )
        return found.data.model_dump()

    def artifacts(self, kind: Any) -> dict[str, Any]:
        names = {field.name for field in dataclasses.fields(kind)}
        found: dict[str, Any] = {"on_artifact_upload_request": self.on_artifact}
        if "artifacts_dirs" in names:
            return {**found, "artifacts_dirs": [ARTIFACTS]}
        return {**found, "artifacts_dir": ARTIFACTS}

    async def invoke(self, prompt: str, **options: Any) -> Any:
        """The surface of the oldest ones."""
        results: list[Any] = []
        errors: list[str] = []

        async def on_result(message: Any) -> None:
            results.append(message.structured_output)

        async def on_error(message: Any) -> None:
            errors.append(message.error)

        more: dict[str, Any] = {}
        if options.pop("with_artifacts", False):
            more["artifacts_dir"] = ARTIFACTS
        form = options.pop("output_format_json_schema_str", SCHEMA)
        invocation = package.InvocationMessage(
            message_type="invocation_message",
            source_id="1",
            preferred_model="m",
            system_prompt="s",
            user_prompt=prompt,
            output_format_json_schema_str=form,
            secrets_to_redact=[],
            agent_env={},
            **{"artifacts_dir": None, **options, **more},
        )
        client: Any = package.RuntimeUseClient(URL)
        if hasattr(package, "RuntimeUseInvoker"):
            client = package.RuntimeUseInvoker(client)
        await client.invoke(
            invocation=invocation,
            on_result_message=on_result,
            result_message_cls=package.ResultMessageInterface,
            on_assistant_message=self.on_assistant,
            on_artifact_upload_request=self.on_artifact,
            on_error_message=on_error,
            timeout=DEADLINE,
        )
        return results[0] if results else {"error": errors[0]}


async def raised(call: Any) -> str:
    try:
        found = await call
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return str(found["error"]) if isinstance(found, dict) and "error" in found else repr(found)


async def aborted() -> str:
    client = package.RuntimeUseClient(ws_url=URL)
    started = asyncio.Event()

    async def on_assistant(_: Any) -> None:
        started.set()

    options = package.QueryOptions(
        system_prompt="s", model="m", timeout=DEADLINE, on_assistant_message=on_assistant
    )
    call = asyncio.create_task(client.query("SAY_AND_WAIT:60000", options))
    await started.wait()
    client.abort()
    return await raised(call)


async def commands(on: Any, **options: Any) -> Any:
    listed = [
        package.CommandInterface(command=text, cwd=None)
        for text in ("echo one", "exit 4", "echo never")
    ]
    options = {"timeout": DEADLINE, **options}
    found = await on.execute_commands(listed, package.ExecuteCommandsOptions(**options))
    return [item.exit_code for item in found.results]


async def in_session(caller: Caller) -> Any:
    async with package.RuntimeUseClient(ws_url=URL).session() as session:
        first = await caller.ask("ECHO:first", on=session)
        failed = await raised(caller.ask("THROW:it broke", on=session))
        codes = await commands(session)
        written = await caller.ask(
            f"WRITE:{ARTIFACTS}/in_session.txt|kept|0", on=session, with_artifacts=True
        )
        return [first["text"], failed, codes, "in_session" in written["text"]]


async def main() -> dict[str, Any]:
    caller = Caller()
    told: dict[str, Any] = {
        "structured": await caller.query(
            'STRUCTURED:{"n": 1}', output_format_json_schema_str=SCHEMA
        ),
        "failed": await raised(caller.query("THROW:it broke")),
    }
    if not IS_OLD:
        told["text"] = await caller.query("STREAM:2")
        told["said"] = caller.said
    await caller.query(
        f'WRITE_STRUCTURED:{ARTIFACTS}/report.txt|hello|{{"done": true}}', with_artifacts=True
    )
    told["asked"] = caller.asked[:1]
    if not IS_OLD:
        told["aborted"] = await aborted()
    client = package.RuntimeUseClient(URL)
    if hasattr(client, "execute_commands"):
        told["commands"] = await raised(commands(client))
    if hasattr(client, "session"):
        told["session"] = await in_session(caller)
    return told


sys.stdout.write(json.dumps(asyncio.run(asyncio.wait_for(main(), 4 * DEADLINE))))
