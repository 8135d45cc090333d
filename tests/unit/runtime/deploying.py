"""A run in which two calls of three wait for an approval, and one has an effect that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paddock.runtime.session.session import Session

__all__ = ["NOBODY", "TURNS", "Deploys", "call", "echo", "results"]

NOBODY = {"auto_approve": False}


def call(name: str, /, call_id: str = "", **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments, **({"id": call_id} if call_id else {})}


def results(session: Session) -> list[str]:
    return [message["content"] for message in session.state.messages if message["role"] == "tool"]


class Deploys:
    """A tool that has an effect, and counts it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def deploy(self, where: str = "") -> str:
        self.done.append(where)
        return f"deployed {where}"


def echo(text: str = "") -> str:
    return f"echo: {text}"


TURNS: list[dict[str, Any]] = [
    {
        "tool_calls": [
            call("echo", "a", text="1"),
            call("deploy", "b", where="here"),
            call("deploy", "c", where="there"),
        ]
    },
    {"text": "Done."},
    {"text": "More."},
]
