"""The page itself: one HTML file with its style, its script and the data that the script shows.

The policy in it lets the browser run this one script and load nothing. The data is JSON in which
no character can end its block or begin markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["document"]

_IN_JSON = str.maketrans({each: f"\\u{ord(each):04x}" for each in "<>&"})
"""They stand in JSON's texts only, where they may be written so."""


def document(title: str, sentence: str, shown: Mapping[str, Any]) -> str:
    """Return the page. `sentence` is for browsers without scripts, `shown` is its data."""
    style, script = (_file(f"report.{kind}") for kind in ("css", "js"))
    parts = {
        "POLICY": f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; "
        "base-uri 'none'; form-action 'none'",
        "TITLE": html.escape(title),
        "SENTENCE": html.escape(sentence),
        "STYLE": style,
        "SCRIPT": script,
        "DATA": json.dumps(shown, separators=(",", ":")).translate(_IN_JSON),
    }
    before, *others = _file("report.html").split("{{")
    pieces = [before]
    for each in others:  # once: data that looks like a place is data
        name, _, rest = each.partition("}}")
        pieces += [parts[name], rest]
    return "".join(pieces)


def _file(name: str) -> str:
    return resources.files("paddock.runtime.fleet.page").joinpath(name).read_text("utf-8")


def _source(text: str) -> str:
    """Return what allows exactly this text in a policy."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
