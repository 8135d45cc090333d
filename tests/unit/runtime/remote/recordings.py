"""The recordings of the published programs, made to fit this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "load", "names", "without_times"]

FOLDER = Path(__file__).parents[3] / "documents" / "in-sandbox"


def names(letters: str) -> list[str]:
    return sorted(path.stem for path in FOLDER.glob(f"[{letters}]*.jsonl"))


def load(name: str, *, sandbox: Path | None = None, store: str = "") -> list[dict[str, Any]]:
    """The lines of a recording, with its paths below `sandbox` and its URLs at `store`."""
    text = (FOLDER / f"{name}.jsonl").read_text()
    if sandbox is not None:
        text = text.replace("/sandbox", str(sandbox)).replace("http://store.test", store)
    return [json.loads(line) for line in text.splitlines()]


def without_times(frame: Any) -> Any:
    """What has to be the same: not the stack, nor how long something took."""
    if isinstance(frame, dict):
        return {
            key: without_times(value)
            for key, value in frame.items()
            if key not in ("stack", "elapsed_ms")
        }
    if isinstance(frame, list):
        return [without_times(each) for each in frame]
    return frame
