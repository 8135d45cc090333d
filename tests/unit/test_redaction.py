"""The redactor: what it finds, what it leaves alone, and how long that takes."""

from __future__ import annotations

import base64
import json
import random
import re
import shlex
import string
import sysconfig
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock._spellings import spellings
from paddock.errors import ConfigError
from paddock.redaction import NOTHING_SECRET, Redactor, Secrets, ShortSecret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypothesis.strategies import SearchStrategy

pytestmark = pytest.mark.rows("C49", "D6e")

CHARACTERS = string.ascii_letters + string.digits + "+/-_ '\"\\$&=%é"
PERCENT = re.compile("%[0-9A-F]{2}")
TOKEN = "s3cr3t/Token+with 'quotes' & \"more\""


def canaries(count: int = 20, *, length: int = 24) -> dict[str, str]:
    """Secrets as generators of passwords make them, the same in each run."""
    chance = random.Random(20)
    return {
        f"CANARY_{number}": "".join(chance.choices(CHARACTERS, k=length)) for number in range(count)
    }


def aligned(before: bytes, encode: Callable[[bytes], bytes]) -> Callable[[str], str]:
    return lambda secret: encode(before + secret.encode() + b"!").decode()


ENCODINGS: Mapping[str, Callable[[str], str]] = {
    "raw": lambda secret: secret,
    "base64": aligned(b"", base64.b64encode),
    "base64 after one byte": aligned(b"x", base64.b64encode),
    "base64 after two bytes": aligned(b"xy", base64.b64encode),
    "url-safe base64": aligned(b"xyz", base64.urlsafe_b64encode),
    "url-safe base64 after one byte": aligned(b"x", base64.urlsafe_b64encode),
    "hex": lambda secret: secret.encode().hex(),
    "HEX": lambda secret: secret.encode().hex().upper(),
    "percent": urllib.parse.quote,
    "percent, strict": lambda secret: urllib.parse.quote(secret, safe=""),
    "percent, lower case": lambda secret: PERCENT.sub(
        lambda match: match[0].lower(), urllib.parse.quote(secret)
    ),
    "form": urllib.parse.quote_plus,
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON, Unicode": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "JSON in JSON": lambda secret: json.dumps(json.dumps(secret)),
    "repr": repr,
    "shell": shlex.quote,
    "shell in JSON": lambda secret: json.dumps(shlex.quote(secret)),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_secret_is_found_in_every_encoding(encoding: str) -> None:
    secrets = canaries()
    redactor = Redactor(secrets)
    for name, secret in secrets.items():
        text = f"before={ENCODINGS[encoding](secret)};after"
        redacted = redactor.text(text)
        assert f"[secret {name}]" in redacted
        assert redacted.startswith("before=")
        assert redacted.endswith(";after")
        data = redacted.encode()
        assert not any(spelling in data for spelling in spellings(secret))


def test_what_is_left_of_base64_tells_no_more_than_the_bits_it_shares_with_its_neighbours() -> None:
    secret = "0123456789abcdef"
    whole = base64.b64encode(b"x" + secret.encode() + b"y").decode()
    redacted = Redactor({"KEY": secret}).text(whole)
    assert len(redacted.replace("[secret KEY]", "")) <= 4


def test_source_text_holds_no_secrets() -> None:
    redactor = Redactor(canaries() | {"SHORT": "hunter22", "NUMBER": "73105519"})
    found = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" in path.parts or found > 10_000_000:
            continue
        data = path.read_bytes()
        found += len(data)
        assert redactor.data(data) is data, path
    assert found > 10_000_000


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("a" * 64, b"a" * 1_000_000),
        ("a" * 64 + "b", b"a" * 1_000_000),
        ("b" + "a" * 64, b"a" * 1_000_000),
        ("a" * 4096 + "b", b"a" * 1_000_000),
        ("ab" * 2048 + "c", b"ab" * 500_000),
        ("%" * 512, b"%25" * 330_000),
    ],
)
def test_no_text_takes_longer_than_a_linear_time(secret: str, text: bytes) -> None:
    redactor = Redactor({"KEY": secret})
    redactor.data(text[:100])  # what is made at the first use is no part of it
    redactor.head(b"")
    before = time.process_time()
    redactor.data(text)
    assert time.process_time() - before < 1.0


def test_secrets_that_overlap_are_hidden_together_under_the_first_name() -> None:
    redactor = Redactor({"ONE": "abcdefgh", "TWO": "efghijkl"})
    assert redactor.text("<abcdefghijkl>") == "<[secret ONE]>"
    assert redactor.text("<abcdefghefghijkl>") == "<[secret ONE][secret TWO]>"


def test_a_secret_within_another_does_not_cut_it() -> None:
    redactor = Redactor({"INNER": "cdefghij", "OUTER": "abcdefghijklmnop"})
    assert redactor.text("<abcdefghijklmnop>") == "<[secret OUTER]>"
    assert redactor.text("<cdefghijkl>") == "<[secret INNER]kl>"


def test_one_value_under_two_names_has_always_the_same_label() -> None:
    one, two = {"A": "12345678x", "B": "12345678x"}, {"B": "12345678x", "A": "12345678x"}
    assert Redactor(one).text("12345678x") == Redactor(two).text("12345678x") == "[secret A]"


def test_lines_of_a_key_file_are_secrets_by_themselves() -> None:
    key = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA7v\nq8Zy1nK0p3Qe5tUuWw\n-----END KEY-----\n"
    redactor = Redactor({"KEY": key})
    assert redactor.text("2:q8Zy1nK0p3Qe5tUuWw\r\n") == "2:[secret KEY]\r\n"
    assert redactor.text(key) == "[secret KEY]"
    assert redactor.text("-----BEGIN KEY-----") == "-----BEGIN KEY-----"


def test_what_holds_no_secret_is_given_back_as_the_same_object() -> None:
    redactor = Redactor({"KEY": "0123456789"})
    text, data = "some text with é and \ud800", b"some \xff bytes"
    assert redactor.text(text) is text
    assert redactor.data(data) is data
    assert NOTHING_SECRET.text(text) is text
    assert NOTHING_SECRET.stream().feed(data) is data


def test_text_that_is_no_valid_unicode_is_redacted_too() -> None:
    redactor = Redactor({"KEY": "0123456789é"})
    assert redactor.text("\ud800 0123456789é \udfff") == "\ud800 [secret KEY] \udfff"


def test_values_are_redacted_in_texts_keys_numbers_and_foreign_objects() -> None:
    redactor = Redactor({"KEY": "1234567890"})

    class Strange:
        def __repr__(self) -> str:
            return "<1234567890>"

    plain = object()
    value = {"1234567890": ["a 1234567890", 1234567890, Strange(), None, True, plain]}
    redacted: dict[str, Any] = redactor.value(value)
    label = "[secret KEY]"
    assert redacted == {label: [f"a {label}", label, f"<{label}>", None, True, plain]}


def test_a_value_that_holds_itself_ends() -> None:
    value: list[object] = ["1234567890"]
    value.append(value)
    assert "1234567890" not in repr(Redactor({"KEY": "1234567890"}).value(value))


def test_earlier_values_of_a_name_stay_secret() -> None:
    redactor = Redactor({"KEY": "first-value"})
    both = redactor.including({"KEY": "second-value"})
    assert both.text("first-value second-value") == "[secret KEY] [secret KEY]"
    assert both.including({"KEY": "first-value"}) is both
    assert redactor.text("second-value") == "second-value"


def test_a_cut_in_the_middle_of_a_secret_leaves_nothing_of_it() -> None:
    redactor = Redactor({"KEY": "correct-horse-battery", "END": "battery-staple-42"})
    text = b"<correct-horse-battery-staple-42>"
    for place in range(len(text) + 1):
        head, tail = redactor.head(text[:place]), redactor.tail(text[place:])
        assert b"orrect"[:3] not in head
        assert b"ple-42"[-3:] not in tail
        assert head.startswith(b"<"[:place])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEY", "hunter2"),
        ("KEY", "  pin4 \n\n"),
        ("KEY", " \n" * 8),
        ("KEY", "x" * 9000),
        ("KEY", "nul\0nul\0nul"),
        ("KEY", "\ud800 lone half"),
        ("1KEY", "long enough"),
        ("MY KEY", "long enough"),
        ("", "long enough"),
    ],
)
def test_a_secret_that_could_not_be_kept_is_refused_without_telling_it(
    name: str, value: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Secrets({name: value})
    assert value not in str(caught.value)


def test_neither_secrets_nor_redactors_show_values() -> None:
    secrets = Secrets({"KEY": "0123456789"})
    assert repr(secrets) == "Secrets(KEY)"
    assert repr(Redactor(secrets)) == "Redactor(KEY)"
    assert hash(secrets) == hash(Secrets({"KEY": "0123456789"}))


# How it is cut into pieces does not matter.

few = "abc"
words: SearchStrategy[str] = st.text(few, min_size=8, max_size=12)


@given(
    st.lists(words, min_size=1, max_size=4),
    st.lists(st.one_of(words, st.text(few, max_size=9)), max_size=12),
    st.lists(st.integers(1, 20), max_size=60),
)
def test_pieces_do_not_change_what_comes_out(
    values: list[str], parts: list[str], sizes: list[int]
) -> None:
    redactor = Redactor({f"S{number}": value for number, value in enumerate(values)})
    text = "".join([*parts, values[0]])
    stream, out, rest = redactor.text_stream(), [], text
    for size in sizes:
        out.append(stream.feed(rest[:size]))
        rest = rest[size:]
    out += [stream.feed(rest), stream.close()]
    assert "".join(out) == redactor.text(text)


@given(st.lists(words, min_size=1, max_size=4), st.text(few, max_size=200))
def test_what_comes_out_is_what_a_plain_search_says(values: list[str], text: str) -> None:
    redactor = Redactor({f"S{number}": value for number, value in enumerate(values)})
    assert redactor.text(text) == searched(values, text)


def searched(values: list[str], text: str) -> str:
    """The specification, in quadratic time."""
    found = sorted(
        (place, -len(value), number)
        for number, value in enumerate(values)
        for place in range(len(text))
        if text.startswith(value, place)
    )
    out, told, end = "", 0, 0
    for place, length, number in found:
        if place >= end:
            out += f"{text[told:place]}[secret S{number}]"
            end = place - length
        end = max(end, place - length)
        told = end
    return out + text[told:]


@given(st.text(min_size=8, max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_no_text_that_can_be_a_secret_comes_through(value: str, before: str, after: str) -> None:
    try:
        redactor = Redactor({"KEY": value})
    except ConfigError:
        return
    redacted = redactor.text(f"{before}{value}{after}")
    assert "[secret KEY]" in redacted
    assert value not in redacted.replace("[secret KEY]", "\x1f")


def test_a_stream_holds_back_less_than_the_longest_spelling() -> None:
    redactor = Redactor({"KEY": TOKEN})
    longest = max(map(len, spellings(TOKEN)))
    stream, chance = redactor.stream(), random.Random(3)
    alphabet = "".join(spelling.decode() for spelling in spellings(TOKEN)).encode()
    given_bytes = told = 0
    for _ in range(500):
        piece = bytes(chance.choices(alphabet, k=7)) + TOKEN.encode()[:9]
        given_bytes += len(piece)
        told += len(stream.feed(piece))
        assert given_bytes - told < longest


PEM = """-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj
MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu
Qk9+aZ0w
-----END PRIVATE KEY-----
"""


@pytest.mark.parametrize("before", ["", " ", "\t", "\n"])
@pytest.mark.parametrize("after", ["", " ", "\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_white_space_at_the_ends_of_a_secret_hides_it_in_no_form(
    before: str, after: str, size: int
) -> None:
    value = "tk-5e4d9c81-correct horse"
    redactor = Redactor({"KEY": before + value + after})
    for printed in (value, before + value + after):
        for spelling in (
            printed,
            base64.b64encode(printed.encode()).decode(),
            printed.encode().hex(),
            json.dumps(printed),
            urllib.parse.quote(printed),
            shlex.quote(printed),
        ):
            data = f"key={spelling};".encode()
            stream = redactor.stream()
            told = b"".join(stream.feed(data[at : at + size]) for at in range(0, len(data), size))
            told += stream.close()
            assert b"[secret KEY]" in told
            assert b"5e4d9c81" not in told
            assert spelling[4:-8].encode() not in told


def test_each_telling_line_of_a_key_is_redacted_as_tools_print_it() -> None:
    redactor = Redactor({"KEY": PEM})
    lines = PEM.splitlines()[1:-1]
    for shown in (
        " ".join(PEM.split()),
        PEM.replace("\n", "\r\n"),
        *(f"    {line}  " for line in lines),
        *(base64.b64encode(line.encode()).decode() for line in lines),
        *(line.encode().hex() for line in lines),
    ):
        told = redactor.text(shown)
        assert "[secret KEY]" in told
        for line in lines:
            assert line not in told
            assert base64.b64encode(line.encode()).decode()[:-4] not in told
            assert line.encode().hex() not in told
    assert redactor.text("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"


def test_a_secret_of_short_lines_is_found_where_a_shell_joins_them() -> None:
    redactor = Redactor({"LOGIN": "bob\nhunter2\n"})
    assert redactor.text("login: bob hunter2") == "login: [secret LOGIN]"


def test_a_short_secret_is_redacted_where_its_owner_insists() -> None:
    secrets = Secrets({**Secrets({"PIN": ShortSecret("1234")}), "TOKEN": "tk-5e4d9c81"})
    redactor = Redactor() | Redactor(secrets)
    told = redactor.text("pin 1234, total 512345, MTIzNAo=, 31323334, tk-5e4d9c81")
    assert told.count("[secret PIN]") == 4
    assert "1234" not in told
    assert "[secret TOKEN]" in told
    assert redactor.value({"pin": 1234}) == {"pin": "[secret PIN]"}
    assert Redactor({"X": ShortSecret("z")}).text("fizz") == "fi[secret X][secret X]"
    assert "1234" not in repr(secrets) + repr(ShortSecret("1234"))


@pytest.mark.parametrize("value", ["", "  ", "\n"])
def test_a_short_secret_is_not_empty(value: str) -> None:
    with pytest.raises(ConfigError, match="0 bytes"):
        Secrets({"PIN": ShortSecret(value)})
