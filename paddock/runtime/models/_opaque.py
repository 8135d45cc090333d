"""What a service wants back as it sent it, put together from the pieces of a stream.

Reasoning, signatures of thoughts and keys that are unknown here mean nothing to Paddock. They
are kept with the conversation, and only for the service that they came from. Does no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["gather", "restored"]

_TEXTS = frozenset({"reasoning_content", "reasoning", "thinking", "text", "summary", "data"})
"""Keys whose pieces are always added to each other, also where two are the same."""


def gather(kept: dict[str, Any], piece: Mapping[str, Any], *, known: frozenset[str]) -> None:
    """Add what `piece` has under keys that are not `known` to `kept`."""
    for key, value in piece.items():
        if key not in known and value is not None:
            kept[key] = _joined(key, kept[key], value) if key in kept else value


def restored(part: dict[str, Any], kept: Any) -> dict[str, Any]:
    """`part` of a message with what was `kept` of it, wherever the two do not contradict."""
    if not isinstance(kept, dict):
        return part
    both = {
        key: restored(part[key], kept[key])
        for key in kept.keys() & part.keys()
        if isinstance(part[key], dict)
    }
    return {**kept, **part, **both}


def _joined(key: str, before: Any, value: Any) -> Any:
    if isinstance(before, str) and isinstance(value, str):
        return before if before == value and key not in _TEXTS else before + value
    if isinstance(before, dict) and isinstance(value, dict):
        joined = dict(before)
        gather(joined, value, known=frozenset())
        return joined
    if isinstance(before, list) and isinstance(value, list):
        joined_list = list(before)
        for each in value:
            _add(joined_list, each)
        return joined_list
    return value


def _add(items: list[Any], item: Any) -> None:
    """Append `item`, or join it to the one of its index and type, as OpenRouter cuts them."""
    if isinstance(item, dict) and item.get("index") is not None:
        same = ("index", "type")
        for number, each in enumerate(items):
            if isinstance(each, dict) and all(each.get(key) == item.get(key) for key in same):
                items[number] = {
                    key: _joined(key, each[key], item[key])
                    if key in _TEXTS and each.get(key) and item.get(key)
                    else (item.get(key) if item.get(key) is not None else each.get(key))
                    for key in {**each, **item}
                }
                return
    items.append(item)
