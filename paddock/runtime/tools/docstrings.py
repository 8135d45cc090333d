"""What a docstring says about a function and its parameters, in any of the common styles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import docstring_parser

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Described", "describe"]


@dataclass(frozen=True, kw_only=True)
class Described:
    """The text about the function itself, and about its parameters, by their names."""

    text: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


def describe(docstring: str | None) -> Described:
    """Read `docstring`: reST, Google, NumPy or Epydoc style, whichever says most.

    What is in none of these styles is taken as text about the function.
    """
    try:
        found = docstring_parser.parse(docstring or "")
    except docstring_parser.ParseError:
        return Described(text=(docstring or "").strip())
    texts = [found.short_description, found.long_description]
    if found.returns is not None and found.returns.description:
        texts.append(f"Returns: {found.returns.description}")
    parameters = {
        name.strip().lstrip("*"): each.description
        for each in found.params
        if each.description
        for name in each.arg_name.split(",")
    }
    return Described(text="\n\n".join(text for text in texts if text), parameters=parameters)
