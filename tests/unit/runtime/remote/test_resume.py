"""Sockets that drop: the run goes on inside, and its client gets every frame once."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.remote.client import RuntimeUseClient
from paddock.runtime.remote.endings import RESULT_KEPT, Endings
from paddock.runtime.remote.framelog import FrameLog
from paddock.runtime.remote.messages import ArtifactUploadResult, CommandInterface
from paddock.runtime.remote.options import (
    CancelledException,
    ExecuteCommandsOptions,
    QueryOptions,
)
from paddock.runtime.remote.settings import ServerSettings
from tests.unit.runtime.remote.cutting import cutting
from tests.unit.runtime.remote.lab import Lab
from tests.unit.runtime.remote.talking import PATIENCE, Talker, invocation

if TYPE_CHECKING:
    from paddock.runtime.remote.messages import (
        ArtifactUploadRequestMessageInterface,
        AssistantMessageInterface,
    )
    from tests.unit.runtime.remote.conftest import Serve
    from tests.unit.runtime.remote.store import Store

RUN = "12345678-1234-1234-1234-123456789abc"


def negotiated(prompt: str, run_id: str = RUN, **more: Any) -> dict[str, Any]:
    return invocation(prompt, paddock={"v": 1, "run_id": run_id, "max_frame": 2**20}, **more)


class Counting(Lab):
    runs = 0

    async def run(self, invocation: Any, sender: Any) -> Any:
        self.runs += 1
        return await super().run(invocation, sender)


@pytest.mark.rows("U-31", "N-14")
async def test_two_hundred_cut_connections_lose_and_double_nothing(
    serve: Serve, store: Store, tmp_path: Path
) -> None:
    chance = random.Random(16)
    lab = Counting()
    folder = tmp_path / "work" / "art"
    calls = 0

    async with (
        serve(lab) as server,
        cutting(server.port, lambda: chance.randrange(100, 9000)) as cutter,
    ):
        client = RuntimeUseClient(cutter.url, token=server.token)
        while cutter.cuts < 200:
            calls += 1
            said: list[str] = []

            async def on_assistant(message: AssistantMessageInterface, said: Any = said) -> None:
                said.extend(message.text_blocks)

            async def on_artifact(
                request: ArtifactUploadRequestMessageInterface,
            ) -> ArtifactUploadResult:
                url = f"{store.url}/{request.relative_path}"
                return ArtifactUploadResult(presigned_url=url, content_type="text/plain")

            options = QueryOptions(
                "s",
                "m",
                on_assistant_message=on_assistant,
                artifacts_dirs=[str(folder)],
                on_artifact_upload_request=on_artifact,
                pre_agent_invocation_commands=[
                    CommandInterface(command=f"echo {calls} > {folder}/{calls}.txt")
                ],
                timeout=PATIENCE,
            )
            result = await client.query("STREAM:40", options)
            assert said == [f"message {number} of 40" for number in range(1, 41)]
            assert result.data.model_dump()["text"] == "streamed 40"
            assert result.metadata is not None
            assert [each["status"] for each in result.metadata["artifacts"]] == ["uploaded"]
    assert lab.runs == calls
    assert store.stored == {f"/{n}.txt": f"{n}\n".encode() for n in range(1, calls + 1)}


@pytest.mark.rows("U-31")
async def test_a_session_continues_over_a_dropped_socket(serve: Serve) -> None:
    options = QueryOptions("s", "m", timeout=PATIENCE)
    async with (
        serve() as server,
        cutting(server.port, lambda: None) as cutter,
        RuntimeUseClient(cutter.url, token=server.token).session() as session,
    ):
        await session.query("ECHO:one", options)
        cutter.cut()
        assert (await session.query("ECHO:two", options)).data.model_dump()["text"] == "two"
        cutter.cut()
        done = await session.execute_commands(
            [CommandInterface(command="echo three")], ExecuteCommandsOptions(timeout=PATIENCE)
        )
        assert done.results[0].stdout == "three\n"


@pytest.mark.rows("U-31", "U-14")
async def test_a_cancellation_arrives_over_a_dropped_socket(serve: Serve) -> None:
    lab = Lab()
    async with serve(lab) as server, cutting(server.port, lambda: None) as cutter:
        client = RuntimeUseClient(cutter.url, token=server.token)
        calling = asyncio.create_task(client.query("SLOW:60000", QueryOptions("s", "m")))
        await lab.started.wait()
        cutter.cut()
        client.abort()
        with pytest.raises(CancelledException):
            async with asyncio.timeout(PATIENCE):
                await calling


@pytest.mark.rows("U-31")
async def test_frames_are_numbered_and_replayed_from_where_a_client_was(serve: Serve) -> None:
    async with serve() as server:
        async with Talker(server.url) as first:
            await first.ask(negotiated("STREAM:3"))
        assert [frame["seq"] for frame in first.frames] == [1, 2, 3, 4, 5]
        assert {frame["run_id"] for frame in first.frames} == {RUN}
        assert first.frames[0]["paddock"] == {"v": 1}
        attach = {"message_type": "attach_message", "run_id": RUN, "after": 2}
        async with Talker(server.url) as second:
            await second.ask(attach)
        assert second.frames == first.frames[2:]


@pytest.mark.rows("U-31")
async def test_the_same_run_is_not_begun_twice(serve: Serve) -> None:
    lab = Counting()
    async with serve(lab) as server:
        async with Talker(server.url) as first, Talker(server.url) as second:
            await first.send(negotiated("SLOW:300"))
            await lab.started.wait()
            result = await second.ask(negotiated("SLOW:300"))
        assert result["data"]["text"] == "slow done"
    assert lab.runs == 1


@pytest.mark.rows("U-31")
async def test_a_run_without_its_client_ends_after_a_while(serve: Serve, tmp_path: Path) -> None:
    lab = Lab()
    async with serve(lab, ServerSettings(resume_grace=0.1)) as server:
        async with Talker(server.url) as first:
            await first.send(negotiated("ABORTABLE:600000"))
            await lab.started.wait()
        path = tmp_path / "state" / f"{RUN}.json"
        async with asyncio.timeout(PATIENCE):
            while not path.exists():  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.01)
        async with Talker(server.url) as second:
            attach = {"message_type": "attach_message", "run_id": RUN, "after": 1}
            ended = await second.ask(attach)
    assert ended["error"] == "Request cancelled"
    assert ended["metadata"]["code"] == "client_lost"


@pytest.mark.rows("U-31")
async def test_a_server_that_restarts_knows_how_a_run_ended(serve: Serve) -> None:
    async with serve() as server, Talker(server.url) as talker:
        result = await talker.ask(negotiated("ECHO:kept"))
    async with serve() as server, Talker(server.url) as talker:
        again = await talker.ask({"message_type": "attach_message", "run_id": RUN, "after": 1})
        assert again == result
        other = RUN.replace("1", "0")
        unknown = await talker.ask({"message_type": "attach_message", "run_id": other, "after": 1})
        assert unknown["metadata"]["code"] == "run_unknown"


@pytest.mark.rows("U-18", "U-31")
async def test_a_dropped_stranger_ends_the_run(serve: Serve) -> None:
    gone = asyncio.Event()
    home = asyncio.get_running_loop()

    async def handler(invocation: Any, sender: Any) -> str:
        await sender.send_assistant_message(["here"])
        try:
            await asyncio.Event().wait()
        finally:
            home.call_soon_threadsafe(gone.set)
        return ""

    async with serve(handler) as server:
        async with Talker(server.url) as talker:
            await talker.send(invocation("x"))
            await talker.until(lambda: bool(talker.of("assistant_message")))
        async with asyncio.timeout(PATIENCE):
            await gone.wait()


@pytest.mark.rows("U-29", "U-31")
def test_the_ends_of_runs_are_removed_when_nobody_can_want_them(tmp_path: Path) -> None:
    """Ends after the time that is given, results that were too large after a day."""
    folder = tmp_path / "ends"
    log = FrameLog(run_id=RUN)
    log.add({"message_type": "result_message"})
    kept = Endings(str(folder), kept=3600.0)
    kept.save(RUN, log)
    result = Path(kept.save_text("{}"))
    foreign = folder / "a-b-c-d-e.json"
    foreign.touch()
    ended = folder / f"{RUN}.json"

    def left(age: float) -> set[Path]:
        for path in folder.iterdir():
            os.utime(path, times=(time.time() - age,) * 2)
        kept.close()
        return set(folder.iterdir())

    assert left(3500) == {ended, result, foreign}
    assert left(3700) == {result, foreign}
    assert left(RESULT_KEPT + 100) == {foreign}
