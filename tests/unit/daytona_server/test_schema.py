"""The anti-drift check: what the SDK's own models describe passes, anything else is told."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.testing.daytona.schema import Schema, Violation

SANDBOX: dict[str, Any] = {
    "id": "1",
    "organizationId": "org",
    "name": "one",
    "user": "daytona",
    "env": {},
    "labels": {},
    "public": False,
    "networkBlockAll": False,
    "kvm": False,
    "target": "us",
    "cpu": 1,
    "gpu": 0,
    "memory": 1,
    "disk": 3,
    "state": "started",
    "toolboxProxyUrl": "http://127.0.0.1:1/toolbox",
}
ENVELOPE = {"path": "/", "timestamp": "t", "statusCode": 409, "error": "Conflict", "message": "m"}
ERROR = {"statusCode": 408, "message": "late", "code": "REQUEST_TIMEOUT", "timestamp": "t"}


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/sandbox", "create_sandbox"),
        ("GET", "/sandbox/ssh-access/validate", "validate_ssh_access"),
        ("GET", "/sandbox/some-name", "get_sandbox"),
        ("POST", "/sandbox/{sandboxIdOrName}/stop", "stop_sandbox"),
    ],
)
def test_the_most_literal_route_of_the_control_plane_is_found(
    method: str, path: str, name: str
) -> None:
    assert Schema.control().operation(method, path).name == name


def test_what_the_sdk_sends_and_reads_passes() -> None:
    control, toolbox = Schema.control(), Schema.toolbox()
    control.check_request("POST", "/sandbox", {}, {"name": "one", "env": {}, "volumes": []})
    control.check_request("GET", "/sandbox", {"labels": "{}", "limit": "2"})
    control.check_response("POST", "/sandbox", 200, SANDBOX)
    control.check_response("POST", "/sandbox", 409, ENVELOPE)
    control.check_response("GET", "/sandbox/x/signing-key", 200, "key")
    control.check_response("GET", "/volumes", 200, [])
    toolbox.check_request("POST", "/process/execute", {}, {"command": "true", "timeout": 3})
    toolbox.check_request("POST", "/files/bulk-upload", {})
    toolbox.check_request("GET", "/process/pty/create-connect", {"id", "cols", "rows"})
    toolbox.check_response("POST", "/process/execute", 200, {"exitCode": 0, "result": ""})
    toolbox.check_response(
        "POST", "/process/execute", 408, {**ERROR, "path": "/p", "method": "POST"}
    )
    toolbox.check_response("POST", "/process/execute", 502)
    toolbox.check_response("GET", "/process/interpreter/execute", 101)
    toolbox.check_response("POST", "/files/bulk-download", 200)


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "complaint"),
    [
        ("GET", "/nothing", {}, None, "no operation"),
        ("GET", "/sandbox", {"label": "x"}, None, "unknown query names"),
        ("POST", "/sandbox", {}, None, "no body"),
        ("POST", "/sandbox", {}, {"nam": "x"}, "does not know"),
        ("POST", "/sandbox", {}, {"cpu": 1.5}, "cpu"),
        ("POST", "/sandbox", {}, [], "not an object"),
        ("POST", "/sandbox", {}, {"gpuType": ["abacus"]}, "does not know"),
        ("POST", "/sandbox", {}, {"volumes": [{"volumeId": "v", "mountPath": "/", "x": 1}]}, "x"),
        ("POST", "/sandbox/x/stop", {}, {}, "a body where none"),
    ],
)
def test_a_request_that_the_sdk_does_not_send_is_a_violation(
    method: str, path: str, query: dict[str, str], body: object, complaint: str
) -> None:
    with pytest.raises(Violation, match=complaint):
        Schema.control().check_request(method, path, query, body)


def test_a_query_name_that_has_to_be_there_is_missed() -> None:
    with pytest.raises(Violation, match="missing"):
        Schema.toolbox().check_request("GET", "/files/info", {})


@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [
        (201, SANDBOX, "described are"),
        (200, None, "Sandbox is described"),
        (200, {**SANDBOX, "state": "asleep"}, "does not know"),
        (200, {**SANDBOX, "colour": "red"}, "colour"),
        (200, {name: SANDBOX[name] for name in SANDBOX if name != "kvm"}, "kvm"),
        (404, {"detail": "no"}, "not an error envelope"),
    ],
)
def test_an_answer_that_the_sdk_does_not_read_is_a_violation(
    status: int, body: object, complaint: str
) -> None:
    with pytest.raises(Violation, match=complaint):
        Schema.control().check_response("POST", "/sandbox", status, body)


def test_a_daemon_error_with_an_unknown_code_is_a_violation() -> None:
    body = {**ERROR, "path": "/p", "code": "NO_SUCH_CODE"}
    with pytest.raises(Violation, match="does not know"):
        Schema.toolbox().check_response("POST", "/process/execute", 408, body)
