"""The wire without a socket: what is read, what is written, and that nothing breaks it."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.redaction import Redactor
from paddock.runtime.remote.failures import bounded, describe
from paddock.runtime.remote.framelog import FrameLog
from paddock.runtime.remote.frames import CommandOutput, RunFrames
from paddock.runtime.remote.messages import CommandExecutionMessage, InvocationMessage
from paddock.runtime.remote.wire import BadFrame, Closing, Peer, encode, read
from tests.unit.runtime.remote.talking import command_request, invocation

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
KINDS = st.sampled_from(
    [
        *("invocation_message", "command_execution_message", "attach_message", "ack_message"),
        *("artifact_upload_response_message", "cancel_message", "end_session_message", "other"),
    ]
)
FIELDS = sorted({*InvocationMessage.model_fields, *CommandExecutionMessage.model_fields, "run_id"})


@pytest.mark.rows("U-21", "N-17")
@given(st.one_of(st.text(), st.binary()))
def test_any_frame_is_read_or_is_bad(frame: str | bytes) -> None:
    try:
        read(frame)
    except BadFrame as error:
        told = str(error)
    else:
        told = "a message"
    assert 0 < len(told) < 10_000


@pytest.mark.rows("U-21", "N-17")
@given(KINDS, st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6))
def test_any_object_is_read_or_is_bad(kind: str, fields: dict[str, Any]) -> None:
    frame = json.dumps({**fields, "message_type": kind})
    try:
        message, found = read(frame)
    except BadFrame:
        return
    if isinstance(message, InvocationMessage | CommandExecutionMessage):
        Peer.of(message, found)


@pytest.mark.rows("U-21")
@given(st.text(min_size=8))
def test_an_error_tells_no_value(value: str) -> None:
    frame = {**invocation("x"), "secrets_to_redact": value, "agent_env": [value]}
    with pytest.raises(BadFrame) as caught:
        read(json.dumps(frame))
    if value not in "invocation_message: secrets_to_redact: Input should be a valid list; ":
        assert value not in str(caught.value).replace("dictionary", "")


@pytest.mark.rows("U-7")
def test_null_is_absent_and_other_names_are_taken() -> None:
    old = {
        "message_type": "invocation_message",
        "system_prompt": "s",
        "user_prompt": "u",
        "preferred_model": "old",
        "secrets_to_redact": None,
        "artifacts_dir": "/a",
        "unknown": 1,
        "runtime_environment_downloadables": [{"download_url": "http://h/x", "working_dir": "/"}],
    }
    message, _ = read(json.dumps(old))
    assert isinstance(message, InvocationMessage)
    assert message.model == "old"
    assert message.secrets_to_redact == []
    assert message.folders == ["/a"]
    assert message.downloads[0].download_url == "http://h/x"


@pytest.mark.rows("U-28")
@pytest.mark.parametrize(
    ("frame", "closing", "old"),
    [
        ({**invocation("x"), "preferred_model": "m"}, Closing.AT_ONCE, True),
        (invocation("x"), Closing.NEVER, False),
        (command_request("x"), Closing.NEVER, False),
        (
            {
                "message_type": "command_execution_message",
                "commands": [],
                "artifacts_dir": None,
            },
            Closing.AFTER_LINGER,
            False,
        ),
    ],
)
def test_a_client_is_recognised_by_the_keys_of_its_first_request(
    frame: dict[str, Any], closing: Closing, old: bool
) -> None:
    message, found = read(json.dumps(frame))
    assert isinstance(message, InvocationMessage | CommandExecutionMessage)
    peer = Peer.of(message, found)
    assert (peer.closing, peer.old_result, peer.negotiated) == (closing, old, False)


@given(JSON)
def test_whatever_a_frame_has_is_encoded_or_refused(value: Any) -> None:
    try:
        text = encode({"message_type": "x", "value": value})
    except ValueError:
        return
    json.loads(text.encode())


# ------------------------------------------------------------------------- frames of a run


def frames(secrets: list[str], **peer: Any) -> RunFrames:
    return RunFrames(
        Peer(**peer),
        Redactor.marking(secrets, "[REDACTED]"),
        run_id="r",
        tell=lambda: None,
        save=lambda text: f"/saved/{len(text)}",
    )


def written(made: RunFrames) -> list[dict[str, Any]]:
    found, at = [], 0
    while (next_one := made.log.after(at)) is not None:
        at, text = next_one
        found.append(json.loads(text))
    return found


@pytest.mark.rows("U-25", "N-6")
@given(
    st.lists(st.sampled_from(["pass", "word-", "password-1", "1", "x\n", "é"]), max_size=12),
    st.integers(1, 5),
)
def test_no_way_to_cut_output_shows_a_secret(pieces: list[str], size: int) -> None:
    made = frames(["password-1"])
    shown = CommandOutput(made, "c")
    data = "".join(pieces).encode()
    for start in range(0, len(data), size):
        shown.feed("stdout", data[start : start + size])
    shown.close()
    text = "".join(frame["text"] for frame in written(made))
    assert text == "".join(pieces).replace("password-1", "[REDACTED]")


@pytest.mark.rows("U-29")
@given(st.integers(1, 30), st.sampled_from(["x", "é", "\n", "\x01", "😀"]), st.integers(0, 9000))
def test_no_frame_is_larger_than_the_client_takes(count: int, char: str, length: int) -> None:
    most = 16384
    made = frames([], max_frame=most, negotiated=True)
    made.assistant([char * length] * count)
    made.output("stdout", char * length, char * length)
    made.warning(char * length, {"more": char * length})
    item = {"command": char * 50, "exit_code": 0, "stdout": char * length, "stderr": char * length}
    made.command_results([dict(item) for _ in range(count)], {})
    other = frames([], max_frame=most)
    other.result({"type": "text", "text": char * length}, {"more": char * length})
    third = frames([], max_frame=most)
    third.error(char * length, {"more": char * length})
    for each in (made, other, third):
        sent = written(each)
        assert each.ended
        for frame in sent:
            assert len(encode(frame).encode()) <= most
    said = "".join(text for f in written(made) if "text_blocks" in f for text in f["text_blocks"])
    assert said == char * length * count


@pytest.mark.rows("U-20", "U-32")
def test_a_run_has_one_end() -> None:
    made = frames([])
    made.error("first", {})
    made.result({"type": "text", "text": "second"}, {})
    made.assistant(["late"])
    made.heartbeat(1.0)
    assert [frame["error"] for frame in written(made)] == ["first"]


@pytest.mark.rows("U-31")
def test_the_oldest_output_goes_when_nobody_reads_and_the_next_frame_says_so() -> None:
    log = FrameLog(run_id="r", max_kept=1000)
    log.add({"message_type": "assistant_message", "text_blocks": ["kept"]})
    for _ in range(20):
        log.add({"message_type": "command_output_message", "text": "x" * 100})
    log.add({"message_type": "result_message"})
    assert log.size <= 1000
    found, at = [], 0
    while (next_one := log.after(at)) is not None:
        at, text = next_one
        found.append(json.loads(text))
    assert [found[0]["seq"], found[-1]["seq"]] == [1, 22]
    assert found[1]["gap"] == found[1]["seq"] - 2 > 0
    assert [frame["seq"] for frame in found[1:]] == list(range(found[1]["seq"], 23))
    log.acknowledge(22)
    assert log.size == 0


# -------------------------------------------------------------------------------- errors


def test_an_error_tells_what_is_known_of_it_cut_to_a_size() -> None:
    error = OSError(2, "no such file")
    error.__cause__ = ValueError("x" * 5000)
    error.detail = {"a": {"b": {"c": {"d": {"e": 1}}}}, "many": list(range(50))}  # type: ignore[attr-defined]
    text, metadata = describe(error)
    assert text == "[Errno 2] no such file"
    assert metadata["error_name"] == "FileNotFoundError"
    assert len(metadata["cause"]["stack"]) <= 4000
    assert len(metadata["error_details"]["detail"]["many"]) == 20
    assert "Traceback" not in json.dumps(metadata)


@given(JSON)
def test_what_an_error_carries_is_json_and_small(value: Any) -> None:
    encode({"value": bounded(value)})


@pytest.mark.rows("U-29")
def test_a_result_that_is_too_large_is_told_where_the_disk_is_full() -> None:
    def full(_: str) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    made = RunFrames(
        Peer(max_frame=4096),
        Redactor.marking([], "[REDACTED]"),
        run_id="r",
        tell=lambda: None,
        save=full,
    )
    made.result({"type": "text", "text": "x" * 5000}, {})
    (ended,) = written(made)
    assert "is larger than this client takes, and cannot be kept: No space left" in ended["error"]
    assert ended["metadata"]["code"] == "result_too_large"


@pytest.mark.rows("U-29")
def test_no_client_may_name_a_frame_that_is_too_small_for_a_message() -> None:
    run_id = "12345678-1234-1234-1234-123456789abc"
    asked = invocation("x", paddock={"v": 1, "run_id": run_id, "max_frame": 2**20 - 1})
    with pytest.raises(BadFrame, match=r"paddock.max_frame: .* greater than or equal to 1048576"):
        read(json.dumps(asked))


@pytest.mark.rows("U-29")
def test_metadata_too_large_for_a_frame_leave_room_for_the_rest() -> None:
    metadata = {"artifacts": [{"path": "x" * 4000, "status": "arrived"}] * 1000}
    ended = [frames([]) for _ in range(3)]
    ended[0].result({"type": "text", "text": "mine"}, metadata)
    ended[1].command_results([{"command": "echo", "exit_code": 0, "stdout": "mine"}], metadata)
    ended[2].error("mine", metadata)
    for each in ended:
        (frame,) = written(each)
        assert frame["metadata"] == {"metadata_truncated": True}
        assert "mine" in json.dumps(frame)
