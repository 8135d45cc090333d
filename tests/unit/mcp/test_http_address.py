"""Who may send requests to a server of MCP over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from paddock import ConfigError
from paddock.runtime.mcp.http import HttpAddress

TOKEN = "a-token-of-some-length"

pytestmark = pytest.mark.rows("F-41")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_a_loopback_address_needs_no_token(host: str) -> None:
    assert HttpAddress(host=host).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box.example.org", ""])
def test_another_address_needs_one(host: str) -> None:
    with pytest.raises(ConfigError, match="needs a token"):
        HttpAddress(host=host)
    assert not HttpAddress(host=host, token=TOKEN).is_loopback


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"path": "mcp"}, "such as /mcp"),
        ({"path": "/mcp#a"}, "such as /mcp"),
        ({"path": "/m p"}, "such as /mcp"),
        ({"path": "//mcp"}, "such as /mcp"),
        ({"port": 70_000}, "up to 65535"),
        ({"token": "short"}, "at least 16"),
        ({"token": f"{TOKEN}\n"}, "no header can carry"),
        ({"token": f"{TOKEN} and more"}, "no header can carry"),
        ({"token": f"{TOKEN}\N{LATIN SMALL LETTER E WITH ACUTE}"}, "no header can carry"),
        ({"allowed_origins": ["app.example.org"]}, "without a path"),
        ({"allowed_origins": ["https://app.example.org/"]}, "without a path"),
        ({"allowed_origins": ["*"]}, "without a path"),
    ],
)
def test_what_makes_no_sense_is_said(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        HttpAddress(**given)


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        ("127.0.0.1:8765", True),
        ("localhost:8765", True),
        ("LOCALHOST", True),
        ("[::1]:8765", True),
        ("evil.example.org", False),
        ("127.0.0.1.evil.example.org", False),
        ("localhost.evil.example.org:8765", False),
        ("evil.example.org@127.0.0.1", True),
        ("127.0.0.1@evil.example.org", False),
        ("", False),
        (None, False),
        ("[", False),
    ],
)
def test_a_loopback_server_is_asked_for_by_its_own_names(
    header: str | None, admitted: bool
) -> None:
    assert HttpAddress().admits_host(header) is admitted


def test_elsewhere_the_name_counts_and_a_server_on_all_addresses_has_any_name() -> None:
    named = HttpAddress(host="box.example.org", token=TOKEN)
    assert named.admits_host("box.example.org:8765")
    assert not named.admits_host("127.0.0.1:8765")
    assert HttpAddress(host="0.0.0.0", token=TOKEN).admits_host("anything.example.org")


@pytest.mark.parametrize(
    ("origin", "by_default", "listed"),
    [
        (None, True, True),
        ("http://localhost:3000", True, False),
        ("http://127.0.0.1", True, False),
        ("https://app.example.org", False, True),
        ("https://app.example.org:444", False, False),
        ("http://app.example.org", False, False),
        ("https://localhost.evil.example.org", False, False),
        ("null", False, False),
        ("", False, False),
    ],
)
def test_pages_of_this_machine_may_send_requests_or_those_that_are_listed(
    origin: str | None, by_default: bool, listed: bool
) -> None:
    assert HttpAddress().admits_origin(origin) is by_default
    mine = HttpAddress(allowed_origins=["https://app.example.org"])
    assert mine.admits_origin(origin) is listed
    assert HttpAddress(host="0.0.0.0", token=TOKEN).admits_origin(origin) is (origin is None)


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (f"Bearer {TOKEN}x", False),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        ("Bearer ", False),
        (None, False),
        ("Bearer ä", False),
    ],
)
def test_a_token_has_to_be_the_right_one(header: str | None, admitted: bool) -> None:
    assert HttpAddress(token=TOKEN).admits_token(header) is admitted
    assert HttpAddress().admits_token(header)
