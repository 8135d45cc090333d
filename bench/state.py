"""Loading a session's trace, beside parsing its JSON; listing a store, beside asking for files.

``state`` is `State.from_jsonl` of a trace of so many records; its floor is `json.loads` of
the same lines, which is what any reader has to do. ``list`` is what ``paddock sessions``
shows of so many sessions; its floor is `os.scandir` and `stat` of each. The best of
several runs, in milliseconds.

    python bench/state.py [--records 100000] [--sessions 10000]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

from paddock import Agent, AgentConfig, SessionStore, State
from paddock.runtime.conversation.trace import encode_record

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 5


def turn(number: int) -> list[dict[str, Any]]:
    """The six records that a turn with one tool call leaves."""
    call_id = f"call_{number}"
    call = {"id": call_id, "type": "function", "function": {"name": "bash", "arguments": "{}"}}
    said = {"type": "message", "role": "assistant", "content": "I look.", "tool_calls": [call]}
    result = "a line of output\n" * 10
    ids = {"tool_call_id": call_id, "tool_name": "bash"}
    stamps = {"ts": "2026-01-01T00:00:00+00:00", "timestamp": "2026-01-01T00:00:00+00:00"}
    records: list[dict[str, Any]] = [
        {"type": "llm_start", "model": "m", "context_size": 100},
        {"type": "llm_end", "model": "m", "input_tokens": 90, "output_tokens": 10},
        said,
        {"type": "tool_start", **ids, "tool_args": {"command": "ls"}},
        {"type": "message", "role": "tool", "tool_call_id": call_id, "content": result},
        {"type": "tool_end", **ids, "success": True, "result": result, "duration_ms": 1.5},
    ]
    return [{**record, **stamps} for record in records]


def fastest(work: Callable[[], object]) -> float:
    """Milliseconds."""
    best = float("inf")
    for _ in range(RUNS):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best * 1000


def tell(what: str, ours: float, floor: float) -> None:
    print(f"{what:24}{ours:9.1f} ms   floor{floor:9.1f} ms{ours / floor:8.2f}x")


def load(count: int) -> None:
    lines = [encode_record(record) for number in range(count // 6) for record in turn(number)]
    data = b"".join(lines)
    floor = fastest(lambda: [json.loads(line) for line in lines])
    tell(f"state, {len(lines):,} records", fastest(lambda: State.from_jsonl(data)), floor)


def show(count: int) -> None:
    agent = Agent(AgentConfig(system_prompt="x"))
    with tempfile.TemporaryDirectory() as name:
        store = SessionStore(name)
        for _ in range(count):
            store.create_session(agent)
        floor = fastest(lambda: [entry.stat() for entry in os.scandir(name)])
        tell(f"list, {count:,} sessions", fastest(store.list), floor)
        tell("search, nothing found", fastest(lambda: store.search("zebra")), floor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=100_000, help="of a trace")
    parser.add_argument("--sessions", type=int, default=10_000, help="in a store")
    options = parser.parse_args()
    load(options.records)
    show(options.sessions)


if __name__ == "__main__":
    main()
