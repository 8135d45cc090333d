"""Artifacts: every file that is new arrives, or it is told which did not, and why."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.remote.settings import ServerSettings
from tests.unit.runtime.remote.answers import Answers
from tests.unit.runtime.remote.lab import Lab
from tests.unit.runtime.remote.talking import Talker, command_request, invocation

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.runtime.remote.conftest import Serve
    from tests.unit.runtime.remote.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "art"
    made.mkdir()
    return made


@pytest.mark.rows("U-24", "N-4", "N-7", "N-8")
async def test_what_is_new_when_the_request_ends_arrives(
    serve: Serve, store: Store, folder: Path
) -> None:
    (folder / "old.txt").write_text("old")
    (folder / "changed.txt").write_text("before")
    last = f"echo late > {folder}/late.txt; echo new > {folder}/changed.txt"
    commands = [
        {"cwd": str(folder), "command": "mkdir a b; echo 1 > a/r; echo 22 > b/r"},
        {"cwd": str(folder), "command": "touch empty; ln -s /etc/hostname link; mkfifo pipe"},
    ]
    answers = Answers(store)
    async with serve() as server, Talker(server.url, answers) as talker:
        ended = await talker.ask(
            invocation(
                "ECHO:x",
                artifacts_dirs=[str(folder)],
                pre_agent_invocation_commands=commands,
                post_agent_invocation_commands=[{"command": last}],
            )
        )
        assert store.stored == {
            "/a/r": b"1\n",
            "/b/r": b"22\n",
            "/late.txt": b"late\n",
            "/changed.txt": b"new\n",
        }
        told = {each["relative_path"]: each for each in ended["metadata"]["artifacts"]}
        assert told["late.txt"] == {
            "path": f"{folder}/late.txt",
            "relative_path": "late.txt",
            "size": 5,
            "sha256": hashlib.sha256(b"late\n").hexdigest(),
            "status": "uploaded",
        }
        again = await talker.ask(invocation("ECHO:x", artifacts_dirs=[str(folder)]))
        assert again["metadata"]["artifacts"] == []
    request = next(each for each in answers.asked if each["filename"] == "late.txt")
    assert request["artifact_type"] == "other"
    assert request["size"] == 5
    assert request["content_type_guess"] == "text/plain"


@pytest.mark.rows("U-24")
async def test_commands_have_artifacts_too_and_missing_folders_are_made(
    serve: Serve, store: Store, tmp_path: Path
) -> None:
    async with serve() as server, Talker(server.url, Answers(store)) as talker:
        await talker.ask(
            command_request("echo a > deep/down/a.txt; exit 1", artifacts_dirs=["deep/down"])
        )
    assert store.stored == {"/a.txt": b"a\n"}
    assert (tmp_path / "work/deep/down/a.txt").exists()


@pytest.mark.rows("U-24")
@pytest.mark.parametrize(
    ("rules", "in_message", "wanted"),
    [
        (None, None, {"a.txt", "l.log", "sub/b.txt"}),
        ("*.log\n", None, {"a.txt", "sub/b.txt", "node_modules/n.js"}),
        ("*.log\n", "/sub/\n# no\n!a.txt\n", {"a.txt", "l.log", "node_modules/n.js"}),
        (None, "*\n!a.txt\n", {"a.txt"}),
    ],
)
async def test_rules_say_what_stays_inside(
    rules: str | None,
    in_message: str | None,
    wanted: set[str],
    serve: Serve,
    store: Store,
    folder: Path,
) -> None:
    if rules is not None:
        (folder / ".artifactignore").write_text(rules)
    names = "a.txt l.log sub/b.txt node_modules/n.js"
    command = f"cd {folder}; mkdir sub node_modules; for f in {names}; do echo $f > $f; done"
    async with serve() as server, Talker(server.url, Answers(store)) as talker:
        await talker.ask(
            command_request(
                command, artifacts_dirs=[str(folder)], artifacts_ignore_content=in_message
            )
        )
    assert {path[1:] for path in store.stored} == wanted


@pytest.mark.rows("U-24", "N-8b")
@pytest.mark.parametrize(
    ("statuses", "status"),
    [([500, 503], "uploaded"), ([500, 500, 500], "failed"), ([403], "failed")],
)
async def test_a_store_that_refuses_is_asked_again_and_then_it_is_told(
    statuses: list[int], status: str, serve: Serve, store: Store, folder: Path
) -> None:
    store.answers = list(statuses)
    request = command_request(f"echo x > {folder}/x", artifacts_dirs=[str(folder)])
    async with serve() as server, Talker(server.url, Answers(store)) as talker:
        ended = await talker.ask(request)
        (told,) = ended["metadata"]["artifacts"]
        assert told["status"] == status
        if status == "failed":
            assert str(statuses[-1]) in told["error"]
            assert store.url not in told["error"]
        store.answers = [403]
        (folder / "x").unlink()
        failed = await talker.ask({**request, "artifacts_required": True})
        assert failed["message_type"] == "error_message"
        assert "artifact x did not arrive" in failed["error"]


@pytest.mark.rows("U-24", "N-8c")
async def test_an_artifact_that_nobody_answers_for_is_told(
    serve: Serve, store: Store, folder: Path
) -> None:
    settings = ServerSettings(ask_timeout=0.2, asks_timeout=0.5)
    command = f"for n in $(seq 40); do echo $n > {folder}/$n; done"
    silent = Answers(store, silent=True)
    async with serve(Lab(), settings) as server, Talker(server.url, silent) as talker:
        ended = await talker.ask(command_request(command, artifacts_dirs=[str(folder)]))
    told = ended["metadata"]["artifacts"]
    assert len(told) == 40
    assert {each["status"] for each in told} == {"unanswered"}
    assert ended["message_type"] == "command_execution_result_message"


@pytest.mark.rows("U-24")
async def test_a_file_that_changes_while_it_is_sent_is_sent_again(
    serve: Serve, store: Store, folder: Path
) -> None:
    path = folder / "grows"

    class Growing(Answers):
        def __call__(self, request: dict[str, Any]) -> dict[str, Any] | None:
            path.write_text("longer than before")
            return super().__call__(request)

    async with serve() as server, Talker(server.url, Growing(store)) as talker:
        ended = await talker.ask(command_request(f"echo x > {path}", artifacts_dirs=[str(folder)]))
    assert store.stored == {"/grows": b"longer than before"}
    (told,) = ended["metadata"]["artifacts"]
    assert told["sha256"] == hashlib.sha256(b"longer than before").hexdigest()


@pytest.mark.rows("U-24")
async def test_only_what_was_asked_for_is_read_for_an_answer(
    serve: Serve, store: Store, folder: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")

    class Forging(Answers):
        def __call__(self, request: dict[str, Any]) -> dict[str, Any] | None:
            (folder / "x").unlink()
            os.symlink(secret, folder / "x")
            return super().__call__(request)

    async with serve() as server, Talker(server.url, Forging(store)) as talker:
        await talker.send(
            {
                "message_type": "artifact_upload_response_message",
                "filename": "secret",
                "filepath": str(secret),
                "presigned_url": f"{store.url}/steal",
                "content_type": "t",
            }
        )
        ended = await talker.ask(
            command_request(f"echo x > {folder}/x", artifacts_dirs=[str(folder)])
        )
    assert not store.puts
    assert ended["metadata"]["artifacts"][0]["status"] == "failed"


@pytest.mark.rows("U-25", "N-6b")
async def test_names_with_secrets_are_told_without_and_found_nevertheless(
    serve: Serve, store: Store, folder: Path
) -> None:
    command = f"echo 1 > {folder}/report-acme.txt; echo 2 > {folder}/report-hill.txt"
    answers = Answers(store, by_name=True)
    async with serve() as server, Talker(server.url, answers) as talker:
        await talker.ask(
            command_request(
                command, artifacts_dirs=[str(folder)], secrets_to_redact=["acme", "hill"]
            )
        )
    assert sorted(put.data for put in store.puts) == [b"1\n", b"2\n"]
    assert len({each["filepath"] for each in answers.asked}) == 2
    assert "acme" not in str(talker.frames)
    assert "hill" not in str(talker.frames)


@pytest.mark.rows("U-18", "U-24", "N-14")
async def test_a_server_that_stops_brings_out_the_artifacts_of_what_it_cancels(
    serve: Serve, store: Store, folder: Path
) -> None:
    lab = Lab()
    settings = ServerSettings(grace=0.1)
    async with serve(lab, settings) as server, Talker(server.url, Answers(store)) as talker:
        request = invocation(f"WRITE:{folder}/part.txt|half|600000", artifacts_dirs=[str(folder)])
        await talker.send(request)
        await lab.started.wait()
        while not (folder / "part.txt").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await server.aclose()
        ended = await talker.terminal()
    assert ended["error"] == "Request cancelled"
    assert ended["metadata"]["code"] == "stopping"
    assert store.stored == {"/part.txt": b"half"}


@pytest.mark.rows("U-24")
async def test_what_is_finished_arrives_while_the_run_goes_on(
    serve: Serve, store: Store, folder: Path
) -> None:
    """And once, if it does not change any more."""
    store.answers = [500, 500, 500]  # for the first one, whose next try comes in the end
    settings = ServerSettings(look_interval=0.02, upload_pauses=(0.0, 0.0))
    command = (
        f"echo 1 > {folder}/early; while [ ! -e {folder}/../go ]; do sleep 0.02; done; "
        f"echo 2 > {folder}/late"
    )
    async with serve(Lab(), settings) as server, Talker(server.url, Answers(store)) as talker:
        await talker.send(command_request(command, artifacts_dirs=[str(folder)]))
        while len(store.puts) < 3:  # noqa: ASYNC110 - the store has no event
            await asyncio.sleep(0.01)
        assert not talker.of("command_execution_result_message")
        (folder.parent / "go").touch()
        ended = await talker.terminal()
    assert store.stored == {"/early": b"1\n", "/late": b"2\n"}
    assert sorted(put.path for put in store.puts) == ["/early"] * 4 + ["/late"]
    told = {each["relative_path"]: each["status"] for each in ended["metadata"]["artifacts"]}
    assert told == {"early": "uploaded", "late": "uploaded"}


@pytest.mark.rows("U-24", "N-8c")
async def test_a_client_that_cannot_answer_is_not_waited_for(
    serve: Serve, store: Store, folder: Path
) -> None:
    class Refusing(Answers):
        def __call__(self, request: dict[str, Any]) -> dict[str, Any] | None:
            return {
                "message_type": "artifact_upload_failed_message",
                "filename": request["filename"],
                "filepath": request["filepath"],
                "error": "no store",
            }

    ours = {"v": 1, "run_id": "12345678-1234-1234-1234-123456789abc"}
    async with serve() as server, Talker(server.url, Refusing(store)) as talker:
        ended = await talker.ask(
            command_request(f"echo x > {folder}/x", artifacts_dirs=[str(folder)], paddock=ours)
        )
    (told,) = ended["metadata"]["artifacts"]
    assert (told["status"], told["error"]) == ("unanswered", "no store")


@pytest.mark.rows("U-24", "N-6")
async def test_names_that_are_not_utf8_are_asked_for_and_arrive(
    serve: Serve, store: Store, folder: Path
) -> None:
    names = [b"a-\xff.txt", b"a-\xfe.txt"]
    for number, name in enumerate(names):
        (folder.parent / f"from{number}").write_text(str(number))
        os.rename(folder.parent / f"from{number}", os.path.join(os.fsencode(folder.parent), name))
    answers = Answers(store, by_name=True)
    async with serve() as server, Talker(server.url, answers) as talker:
        ended = await talker.ask(
            command_request(f"mv {folder.parent}/a-* {folder}", artifacts_dirs=[str(folder)])
        )
    assert [each["status"] for each in ended["metadata"]["artifacts"]] == ["uploaded"] * 2
    assert len({(each["filename"], each["filepath"]) for each in answers.asked}) == 2
    assert sorted(put.data for put in store.puts) == [b"0", b"1"]


@pytest.mark.rows("U-24", "N-7")
async def test_a_file_of_two_folders_arrives_once(serve: Serve, store: Store, folder: Path) -> None:
    folders = [str(folder), f"{folder}/", f"{folder}/inner", f"{folder}/../art/inner"]
    async with serve() as server, Talker(server.url, Answers(store)) as talker:
        ended = await talker.ask(
            command_request(f"echo 1 > {folder}/inner/a", artifacts_dirs=folders)
        )
    assert len(store.puts) == 1
    assert len(ended["metadata"]["artifacts"]) == 1


@pytest.mark.rows("U-24")
async def test_a_port_out_of_range_fails_one_artifact_and_no_other(
    serve: Serve, store: Store, folder: Path
) -> None:
    right = Answers(store)

    def answer(request: dict[str, Any]) -> dict[str, Any] | None:
        response = right(request)
        if response is not None and request["relative_path"] == "bad":
            response["presigned_url"] = "http://127.0.0.1:99999/bad"
        return response

    async with serve() as server, Talker(server.url, answer) as talker:
        ended = await talker.ask(
            command_request(f"cd {folder}; echo 1 > bad; echo 2 > ok", artifacts_dirs=[str(folder)])
        )
    told = {each["relative_path"]: each["status"] for each in ended["metadata"]["artifacts"]}
    assert told == {"bad": "failed", "ok": "uploaded"}
