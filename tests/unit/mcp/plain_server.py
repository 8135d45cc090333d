"""An MCP server of the revision 2025-11-25, in the standard library alone, with bad habits.

It is run by tests, in sandboxes that have nothing but Python.
"""

import base64
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()


def send(**message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def echo(text: str) -> list[dict[str, str]]:
    """The text, or the variable that it names."""
    shown = os.environ.get(text[1:], "not set") if text.startswith("$") else text
    return [{"type": "text", "text": shown}]


def file(path: str) -> list[dict[str, str]]:
    with open(path) as found:
        return [{"type": "text", "text": found.read()}]


def leave(_text: str) -> list[dict[str, str]]:
    sys.stderr.write("out of paper\n")
    sys.stderr.flush()
    os._exit(3)


def hang(text: str) -> list[dict[str, str]]:
    time.sleep(1000)
    return echo(text)


def long_line(text: str) -> list[dict[str, str]]:
    while text != "stop":
        sys.stdout.write("x" * 65536)
    return echo(text)


def notify(text: str) -> list[dict[str, str]]:
    while text != "stop":
        send(method="notifications/message", params={"level": "info", "data": "x"})
    return echo(text)


def image(_text: str) -> list[dict[str, str]]:
    return [
        {"type": "image", "data": PNG, "mimeType": "image/png"},
        {"type": "image", "data": "no base64", "mimeType": "image/png"},
        {"type": "audio", "data": "", "mimeType": "audio/wav"},
    ]


def noise(text: str) -> list[dict[str, str]]:
    sys.stdout.write("a line that is no message\n")
    return echo(text)


def count(_text: str) -> list[dict[str, str]]:
    """How often this process was asked."""
    COUNTED.append("x")
    return [{"type": "text", "text": str(len(COUNTED))}]


COUNTED: list[str] = []
TOOLS: dict[str, Callable[[str], list[dict[str, str]]]] = {
    "echo": echo,
    "file": file,
    "count": count,
    "exit": leave,
    "hang": hang,
    "line": long_line,
    "notify": notify,
    "image": image,
    "noise": noise,
    "fail": echo,
    "progress": echo,
    "odd.name": echo,
}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "plain", "version": "1"},
        }
    if method == "tools/list":
        schema = {"type": "object", "properties": {"text": {}, "the text": {}}}
        tools = [{"name": name, "description": name, "inputSchema": schema} for name in TOOLS]
        return {"tools": tools}
    if method == "tools/call":
        if params["name"] == "progress":
            told = {"progress": 1, "total": 2, "message": "half"}
            token = params["_meta"]["progressToken"]
            send(method="notifications/progress", params={"progressToken": token, **told})
        given = params.get("arguments", {})
        content = TOOLS[params["name"]](given.get("text", given.get("the text", "")))
        return {"content": content, "isError": params["name"] == "fail"}
    return None


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        result = answer(request["method"], request.get("params", {}))
        if result is None:
            send(id=request["id"], error={"code": -32601, "message": "no such method"})
        else:
            send(id=request["id"], result=result)
