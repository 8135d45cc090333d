"""Lists of hosts: what they take, and what they match."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock.errors import ConfigError
from paddock.network import Allow, parse_host


def reaches(entry: str, host: str, port: int) -> bool:
    return Allow(hosts=[entry]).entry_for(parse_host(host), port) is not None


@pytest.mark.parametrize(
    ("entry", "host", "port"),
    [
        ("example.org", "example.org", 80),
        ("example.org", "example.org", 443),
        ("example.org", "EXAMPLE.Org", 443),
        ("example.org", "example.org.", 443),
        ("EXAMPLE.ORG.", "example.org", 443),
        ("example.org:8443", "example.org", 8443),
        ("*.example.org", "a.example.org", 443),
        ("*.example.org", "a.b.example.org", 443),
        ("*.example.org:8443", "a.example.org", 8443),
        ("bücher.example", "xn--bcher-kva.example", 443),
        ("BÜCHER.example", "xn--bcher-kva.example", 443),
        ("faß.example", "xn--fa-hia.example", 443),
        ("192.0.2.7", "192.0.2.7", 80),
        ("127.0.0.1:5432", "127.0.0.1", 5432),
        ("[::1]:8080", "[::1]", 8080),
        ("[2001:DB8::1]", "[2001:db8:0:0::1]", 443),
        ("10.1.0.0/16:5432", "10.1.255.7", 5432),
        ("192.0.2.7/32", "192.0.2.7", 443),
        ("0.0.0.0/0", "8.8.8.8", 80),
        ("[2001:db8::]/32", "[2001:db8:1::1]", 443),
        ("[2001:db8::]/32:8080", "[2001:db8:1::1]", 8080),
        ("my_host.example", "my_host.example", 80),
        ("localhost:8080", "localhost", 8080),
    ],
)
def test_a_listed_host_is_reached_in_every_spelling_of_its_name(
    entry: str, host: str, port: int
) -> None:
    assert reaches(entry, host, port)


@pytest.mark.parametrize(
    ("entry", "host", "port"),
    [
        ("example.org", "example.org", 8080),
        ("10.1.0.0/16:5432", "10.2.0.1", 5432),
        ("10.1.0.0/16:5432", "10.1.0.1", 443),
        ("10.1.0.0/16", "[2001:db8::1]", 443),
        ("0.0.0.0/0", "example.org", 443),
        ("example.org", "example.org", 25),
        ("example.org", "a.example.org", 443),
        ("example.org", "badexample.org", 443),
        ("example.org", "example.org.evil.test", 443),
        ("example.org:8443", "example.org", 443),
        ("*.example.org", "example.org", 443),
        ("*.example.org", "badexample.org", 443),
        ("*.example.org", "a.example.org.evil.test", 443),
        ("*.example.org:8443", "a.example.org", 443),
        ("faß.example", "fass.example", 443),
        ("localhost", "127.0.0.1", 80),
        ("127.0.0.1", "localhost", 80),
        ("127.0.0.1", "[::ffff:127.0.0.1]", 80),
        ("127.0.0.1", "[::1]", 80),
    ],
)
def test_what_is_not_quite_listed_is_not_reached(entry: str, host: str, port: int) -> None:
    assert not reaches(entry, host, port)


def test_an_empty_list_lets_nothing_through() -> None:
    assert Allow(hosts=[]).entry_for("example.org", 443) is None


@pytest.mark.parametrize(
    "entry",
    [
        *("", "*", "*.", ".", "*.*.example.org", "a.*.example.org", "ex*mple.org", ".example.org"),
        *("example.org:", "example.org:0", "example.org:65536", "example.org:http", ":80"),
        *("https://example.org", "example.org/path", "user@example.org", "exa mple.org"),
        *("exam\x00ple.org", "example.org\n", "example..org", "-example.org", "a" * 64 + ".org"),
        *("127.1", "0x7f.0.0.1", "2130706433", "0177.0.0.1", "1.2.3", "1.2.3.4.5", "256.1.1.1"),
        *("::1", "[::1", "::1]", "[::1%lo]", "[1.2.3.4]", "*.1.2.3.4", "*.[::1]"),
        *("host.0x1", "xn--.example" + "x" * 250, "a\u3002b..c", "example.org:\uff18\uff10"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_a_config_error(entry: str) -> None:
    with pytest.raises(ConfigError, match="network"):
        Allow(hosts=[entry])


@pytest.mark.parametrize("hosts", ["example.org", 5, None])
def test_what_is_no_list_is_a_config_error(hosts: Any) -> None:
    with pytest.raises(ConfigError, match=f"a list, not {hosts!r}"):
        Allow(hosts=hosts)


def test_an_entry_that_is_no_text_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="network: 5: not text; give"):
        Allow(hosts=[5])  # type: ignore[list-item]


def test_equal_lists_are_equal_values() -> None:
    one, other = Allow(hosts=["a.test", "b.test:1"]), Allow(hosts=("a.test", "b.test:1"))
    assert one == other
    assert hash(one) == hash(other)
    assert repr(one) == "Allow(hosts=('a.test', 'b.test:1'))"


@given(text=st.text(max_size=40))
def test_any_text_is_a_host_in_one_spelling_or_no_host(text: str) -> None:
    try:
        host = parse_host(text)
    except ValueError:
        return
    spelled = f"[{host}]" if ":" in str(host) else str(host)
    assert parse_host(spelled) == host
    assert spelled.isascii()
    assert not set(spelled) & set(" /@\\?#%\0\r\n\t")


@given(address=st.ip_addresses())
def test_an_address_is_not_taken_for_a_name(address: object) -> None:
    text = str(address)
    assert parse_host(f"[{text}]" if ":" in text else text) == ip_address(text)
