"""An MCP server of the revision 2025-11-25 that asks its client's user, in the standard library.

Each tool asks in its own way, and returns as JSON what it was answered.
"""

import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "Ada", "pattern": "(a+)+$"},
        "age": {"type": "integer"},
    },
    "required": ["name"],
}
NEEDED = {**FORM, "required": ["name", "age"]}
ODD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"type": ["string"], "enum": "abc", "items": 5},
        "deep": {"default": {"a": 1}},
        "long": {"type": "string", "default": "x" * 100_000},
        "n" * 1000: {"type": "string"},
        "flat": 5,
    },
    "required": ["flat"],
}
NUMBERS = iter(range(1000, 2000))
LATE: list[str] = []
UNREAD: deque[dict[str, Any]] = deque()
"""Messages that came while an answer was awaited."""


def send(**message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def read() -> Iterator[dict[str, Any]]:
    while UNREAD or (line := sys.stdin.readline()):
        yield UNREAD.popleft() if UNREAD else json.loads(line)


def ask(**params: Any) -> Any:
    """Ask the user, and return the answer."""
    number = next(NUMBERS)
    send(id=number, method="elicitation/create", params={"message": "Who?", **params})
    while line := sys.stdin.readline():
        message = json.loads(line)
        if message.get("id") == number:
            return message.get("result", message.get("error"))
        UNREAD.append(message)
    return None


def die() -> None:
    send(id=1, method="elicitation/create", params={"message": "Bye", "requestedSchema": FORM})
    os._exit(4)


def unheard() -> Any:
    """Ask, and wait for an answer without ever reading one."""
    send(id=1, method="elicitation/create", params={"message": "Hm?", "requestedSchema": FORM})
    while True:
        sys.stdin.readline()


TOOLS: dict[str, Callable[[], Any]] = {
    "ask": lambda: ask(requestedSchema=FORM),
    "needed": lambda: ask(requestedSchema=NEEDED),
    "often": lambda: [ask(requestedSchema=FORM)["action"] for _ in range(12)],
    "odd": lambda: ask(requestedSchema=ODD),
    "visit": lambda: ask(mode="url", url="https://example.org", elicitationId="1"),
    "die": die,
    "unheard": unheard,
    "late": lambda: "later",
    "heard": LATE.pop,
}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "asking", "version": "1"},
        }
    if method == "tools/list":
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    if method == "tools/call":
        told = TOOLS[params["name"]]()
        return {"content": [{"type": "text", "text": json.dumps(told)}]}
    return None


for request in read():
    if "id" not in request or "method" not in request:
        continue
    result = answer(request["method"], request.get("params", {}))
    if result is None:
        send(id=request["id"], error={"code": -32601, "message": "no such method"})
        continue
    send(id=request["id"], result=result)
    if request.get("params", {}).get("name") == "late":  # its call has ended
        LATE.append(ask(requestedSchema=FORM)["action"])
