"""How a secret may be written: in the encodings that programs put text into.

Only what comes out as the same characters every time is listed. What depends on more than
the secret (compression, encryption, a line that is wrapped) is not.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
import urllib.parse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["LEAST", "spellings"]

LEAST = 8
"""Bytes of the shortest secret, unless its owner insists: a shorter one is in innocent text."""

_LEAST_ENCODED = 4
"""Bytes of the shortest encoding of a secret that is itself shorter than `LEAST`."""

_LEAST_LINE = 16
"""Characters of a line that is looked for by itself, out of a secret of several lines. One with
letters and digits, which is hardly a word, needs `LEAST`."""

_SAFE = ("", "/", "!'()*", "!'()*;,/?:@&=+$#")
"""What is not escaped in URLs: by a strict encoder, Python's, and JavaScript's two."""

_SHELL_SPECIAL = re.compile(r"([^A-Za-z0-9_./:@%+,=-])")
_DOUBLE_QUOTED = re.compile(r'([$`"\\])')
_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
_UNICODE_ESCAPE = re.compile(r"(?<=\\u)[0-9a-f]{4}")
_LETTER = re.compile(r"[^\W\d_]")
_DIGIT = re.compile(r"\d")
_PERCENT_ESCAPE = re.compile(r"%[0-9A-F]{2}")


def spellings(secret: str) -> frozenset[bytes]:
    """The secret as it is, as tools print it, and encoded: what has to be looked for, as bytes."""
    found: set[bytes] = set()
    for printed in {secret, *_printed(secret)}:
        whole = printed.encode()
        texts = {text.encode() for text in (*_written(printed), *_percent_encoded(printed))}
        encoded = {*_base64(whole), whole.hex().encode(), whole.hex().upper().encode()}
        least = min(LEAST, len(whole))
        found |= {one for one in texts if len(one) >= least}
        found |= {one for one in encoded if len(one) >= max(least, _LEAST_ENCODED)}
    return frozenset(found)


def _printed(secret: str) -> Iterator[str]:
    """What remains of it without the white space that shells and terminals take or replace."""
    if stripped := secret.strip():
        yield stripped
        yield " ".join(stripped.split())  # as a shell passes on a variable without quotes
    lines = stripped.splitlines()
    for line in lines if len(lines) > 1 else ():
        text = line.strip()
        if _is_telling(text):
            yield text


def _is_telling(line: str) -> bool:
    """Whether a line of a secret would not be found in innocent text."""
    if line.startswith("-----"):
        return False
    mixed = _LETTER.search(line) is not None and _DIGIT.search(line) is not None
    return len(line) >= (LEAST if mixed else _LEAST_LINE)


def _written(secret: str) -> set[str]:
    """As it stands in JSON, on a command line, and in one within the other."""
    once = _all(_json, {secret}) | _all(_shell, {secret})
    return {secret} | once | _all(_json, once) | _all(_shell, _all(_json, {secret}))


def _all(encode: Callable[[str], Iterable[str]], texts: set[str]) -> set[str]:
    return {encoded for text in texts for encoded in encode(text)}


def _json(text: str) -> Iterator[str]:
    for ascii_only in (True, False):
        plain = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        for form in (plain, plain.replace("/", "\\/"), _for_html(plain)):
            yield form
            yield _UNICODE_ESCAPE.sub(lambda match: match[0].upper(), form)
    yield repr(text)[1:-1]


def _for_html(plain: str) -> str:
    return "".join(_HTML.get(character, character) for character in plain)


def _shell(text: str) -> Iterator[str]:
    yield text.replace("'", "'\\''")
    yield shlex.quote(f"{text} ")[1:-2]  # the blank is there to have it quoted
    yield _DOUBLE_QUOTED.sub(r"\\\1", text)
    yield _SHELL_SPECIAL.sub(r"\\\1", text)


def _percent_encoded(text: str) -> Iterator[str]:
    for safe in _SAFE:
        encoded = urllib.parse.quote(text, safe=safe)
        for form in (encoded, encoded.replace("%20", "+")):
            yield form
            yield _PERCENT_ESCAPE.sub(lambda match: match[0].lower(), form)


def _base64(data: bytes) -> Iterator[bytes]:
    """At each of the three places that it may have in what is encoded, without the
    characters at its ends that depend on its neighbours."""
    for before in range(3):
        bits = 8 * (before + len(data))
        encoded = base64.b64encode(bytes(before) + data)[-(-8 * before // 6) : bits // 6]
        yield encoded
        yield encoded.translate(bytes.maketrans(b"+/", b"-_"))
