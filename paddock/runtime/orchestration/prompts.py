"""System prompts of layers: deterministic text, with a key for caches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from paddock.runtime.orchestration.fields import DynamicApproval
from paddock.runtime.orchestration.spec import ToolSpec
from paddock.runtime.orchestration.values import shown

__all__ = ["LayeredPrompt", "PromptTool", "layered_prompt"]

PromptTool = ToolSpec | Mapping[str, Any] | str
"""A tool as a prompt describes it: a spec, its `name`, `description` and `approval`, or a name."""

_TOOLS = "Tools"
_ROW_KEYS = frozenset({"name", "description", "approval"})


@dataclass(frozen=True, slots=True)
class LayeredPrompt:
    """A rendered prompt: `text`, or ``str(prompt)``, and its `cache_key`. See `layered_prompt`."""

    layers: tuple[tuple[str, str], ...]
    tools: tuple[tuple[str, str, str], ...] = ()
    text: str = field(init=False)

    def __post_init__(self) -> None:
        table = _table(self.tools)
        layers = [(title, table if title == _TOOLS else text) for title, text in self.layers]
        text = "\n\n".join(f"# {title}\n\n{text}" for title, text in layers if text)
        object.__setattr__(self, "text", text)

    @property
    def cache_key(self) -> str:
        """The SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def with_tools(self, tools: Iterable[PromptTool]) -> LayeredPrompt:
        """Return a prompt that also describes `tools`, of one name the first."""
        return replace(self, tools=_rows(tools, self.tools))

    def __str__(self) -> str:
        return self.text


def layered_prompt(
    *,
    identity: str | Sequence[str],
    communication: str | Sequence[str] | None = None,
    operational_rules: str | Sequence[str] | None = None,
    tools: Iterable[PromptTool] | None = None,
    domain_knowledge: Any = None,
    safety: str | Sequence[str] | None = None,
    output_format: Any = None,
    examples: Any = None,
) -> LayeredPrompt:
    """Return a prompt of these layers, in this order, each under a heading.

    `identity`, `communication`, `operational_rules` and `safety` are text or a list of texts; the
    other layers may be any JSON. A list of texts becomes points, a structure sorted JSON, and
    `tools` a table. Layers without content are left out. The same arguments give the same text.

    Raise `TypeError` for a layer of another type, and `ValueError` for an empty `identity`.
    """
    layers = (
        ("Identity", _text("identity", identity)),
        ("Communication", _text("communication", communication)),
        ("Operational rules", _text("operational_rules", operational_rules)),
        (_TOOLS, ""),
        ("Domain knowledge", _structure("domain_knowledge", domain_knowledge)),
        ("Safety", _text("safety", safety)),
        ("Output format", _structure("output_format", output_format)),
        ("Examples", _structure("examples", examples)),
    )
    if not layers[0][1]:
        raise ValueError("identity is empty; say who the agent is")
    return LayeredPrompt(layers, _rows(tools or ()))


def _text(layer: str, value: str | Sequence[str] | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if not _is_texts(value):
        raise TypeError(f"{layer} is text or a list of texts, not {shown(value)}")
    return "\n".join(_point(item) for item in value if item.strip())


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _point(item: str) -> str:
    return "- " + "\n  ".join(item.strip().splitlines())


def _structure(layer: str, value: Any) -> str:
    if value is None or isinstance(value, str) or _is_texts(value):
        return _text(layer, value)
    if isinstance(value, Mapping | list | tuple) and not value:
        return ""
    try:
        text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"{layer} is text or JSON: {error}") from error
    return f"```json\n{text}\n```"


def _rows(
    tools: Iterable[PromptTool], known: tuple[tuple[str, str, str], ...] = ()
) -> tuple[tuple[str, str, str], ...]:
    if isinstance(tools, str | Mapping):
        raise TypeError(f"tools is a list of tools, not {shown(tools)}")
    rows = {row[0]: row for row in known}
    for tool in tools:
        row = _row(tool)
        rows.setdefault(row[0], row)
    return tuple(rows.values())


def _row(tool: PromptTool) -> tuple[str, str, str]:
    match tool:
        case str():
            return tool, "", ""
        case ToolSpec():
            return tool.name, tool.description, _approval(tool.approval)
        case Mapping() if isinstance(tool.get("name"), str) and tool.keys() <= _ROW_KEYS:
            description = str(tool.get("description") or "")
            return tool["name"], description, _approval(tool.get("approval"))
        case _:
            raise TypeError(
                f"{shown(tool)} is not a tool; give a ToolSpec, a name, or a mapping of name, "
                "description and approval"
            )


def _approval(rule: Any) -> str:
    if isinstance(rule, DynamicApproval):
        return rule.kind
    return str(rule.get("kind", "")) if isinstance(rule, Mapping) else str(rule or "")


def _table(rows: Sequence[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    lines = [("Name", "Description", "Approval"), ("---", "---", "---"), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
