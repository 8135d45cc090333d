"""What options mean, and which are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer

from paddock.cli.options import parse_upload, parse_variable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "pair"),
    [("A=1", ("A", "1")), ("A=", ("A", "")), ("A=b=c", ("A", "b=c")), ("_x=a b", ("_x", "a b"))],
)
def test_a_variable_is_divided_at_its_first_equals_sign(text: str, pair: tuple[str, str]) -> None:
    assert parse_variable(text) == pair


@pytest.mark.parametrize("text", ["", "A", "=1", "1A=2", "A B=1", "Ä=1"])
def test_a_malformed_variable_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="KEY=VALUE"):
        parse_variable(text)


def test_an_upload_is_divided_at_its_last_colon(tmp_path: Path) -> None:
    source = tmp_path / "a:b"
    source.touch()
    assert parse_upload(f"{source}:dest") == (str(source), "dest")


@pytest.mark.parametrize("text", ["", "a", "a:", ":b", ":"])
def test_a_malformed_upload_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="SRC:DST"):
        parse_upload(text)


def test_a_missing_source_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        parse_upload(f"{tmp_path}/nowhere:dest")
