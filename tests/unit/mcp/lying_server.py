"""An MCP server of the revision 2025-11-25 that answers each call as its argument says."""

import json
import os
import sys
import time
from typing import Any

TOOLS = [{"name": "work", "inputSchema": {"type": "object", "properties": {"how": {}}}}]
FINE = {"content": [{"type": "text", "text": "fine"}]}
FORGED = {"content": [{"type": "text", "text": "forged"}]}


def send(**message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(value: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": value}]}


def noise() -> None:
    sys.stdout.buffer.write(os.urandom(100_000) + b"\n")


# What is sent for a call, in its order: (what is added to the id, the rest of the message).
LIES: dict[str, list[tuple[int, dict[str, Any]]]] = {
    "another id": [(1000, {"result": FORGED})],
    "the next id": [(1, {"result": FORGED}), (0, {"result": FINE})],
    "twice": [(0, {"result": FINE}), (0, {"result": FORGED})],
    "null": [(0, {"result": None})],
    "no list": [(0, {"result": {"content": "fine"}})],
    "no such part": [(0, {"result": {"content": [{"type": "alien"}]}})],
    "no error": [(0, {"error": {"code": "x", "message": 5}})],
    "half a letter": [(0, {"result": text("a\ud800b")})],
    "parts": [(0, {"result": {"content": text("y")["content"] * 100_000}})],
    "asks": [
        (0, {"method": "sampling/createMessage", "params": {"messages": []}}),
        (1, {"method": "no/such", "params": {}}),
        (0, {"result": FINE}),
    ],
}


def work(number: int, how: str) -> None:
    if how == "bytes":
        noise()
    for added, rest in LIES.get(how, [(0, {"result": FINE})]):
        send(id=number + added, **rest)


def answer(number: Any, method: str, params: dict[str, Any]) -> None:
    match method:
        case "initialize":
            if sys.argv[1:2] == ["never"]:
                with open(sys.argv[2], "w") as started:
                    started.write(str(os.getpid()))
                time.sleep(1000)
            server = {"name": "lying", "version": "1"}
            version = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}}
            send(id=number, result={**version, "serverInfo": server})
        case "tools/list":
            many = sys.argv[1:] == ["many"]
            send(id=number, result={"tools": TOOLS * 100_000 if many else TOOLS})
        case "tools/call":
            work(number, params["arguments"].get("how", ""))
        case _:
            send(id=number, error={"code": -32601, "message": "no such method"})


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request and "method" in request:
        answer(request["id"], request["method"], request.get("params", {}))
