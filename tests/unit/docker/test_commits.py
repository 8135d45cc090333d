"""What an image may be called, as engines have it."""

from __future__ import annotations

import pytest

from paddock.backends.docker.containers.commits import reference_of
from paddock.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("work", "work:latest"),
        ("work:Monday_1.2-x", "work:Monday_1.2-x"),
        ("a.b/c__d/e-f--g:_", "a.b/c__d/e-f--g:_"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("Registry.example.com:5000/x:y", "Registry.example.com:5000/x:y"),
        ("n:" + "t" * 128, "n:" + "t" * 128),
    ],
)
def test_a_name_gets_the_tag_that_it_lacks(name: str, reference: str) -> None:
    assert reference_of(name) == reference


@pytest.mark.parametrize(
    "name",
    [
        *("", ":", "A", "a b", "-x", "a/b?c=d", "x\n", "n@sha256:" + "0" * 64, "x:y:z", "x:y/z"),
        *(
            "a/",
            "/a",
            "a//b",
            "a..b",
            "a___b",
            "_a",
            "a:",
            "a:-b",
            "a:b c",
            "Team/x",
            "\u00e9",
            "a:\u00e9",
        ),
        *("a.:5/b", "-a.b/c", "n:" + "t" * 129),
    ],
)
def test_what_engines_refuse_is_no_name(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a name for an image"):
        reference_of(name)
