"""``paddock image`` for the backends that have no engine, or no images."""

from __future__ import annotations

import pytest

from paddock.cli import main


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["list", "--backend", "local"], "the local backend does not support images"),
        (["rm", "--backend", "local", "base"], "the local backend does not support images"),
        (["list", "--backend", "nope"], "no backend is called 'nope'"),
        (["list", "--backend", "local", "--host", "tcp://a:1"], "--host"),
    ],
)
def test_a_backend_without_images_is_refused(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["image", *arguments]) == 1
    told = capsys.readouterr()
    assert reason in told.err
    assert not told.out
