"""What options mean, and which are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer

from paddock.cli.options import parse_upload, parse_variable, read_attached
from paddock.errors import ConfigError

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


def test_what_is_attached_has_to_be_an_image_that_can_be_read(tmp_path: Path) -> None:
    picture, note = tmp_path / "a.png", tmp_path / "a.txt"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    note.write_text("hi")
    assert [image.media_type for image in read_attached([picture])] == ["image/png"]
    with pytest.raises(ConfigError, match=r"--attach .*a\.txt: an image has to be PNG"):
        read_attached([picture, note])
    with pytest.raises(ConfigError, match=r"--attach .*b\.png: No such file"):
        read_attached([tmp_path / "b.png"])
