"""What is shown while an image is made, where there is no terminal."""

from __future__ import annotations

import io
import sys

import pytest

from paddock.backends.images import Output, Step
from paddock.cli.imaging import image_progress


@pytest.mark.parametrize("forced", ["", "1"])
def test_a_file_gets_a_plain_line_for_each_step(
    forced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", forced)
    monkeypatch.setattr(sys, "stderr", log := io.StringIO())
    with image_progress() as tell:
        tell(Step(image="paddock:python", number=2, total=7, instruction="RUN \x1b[2Jmake"))
        tell(Output(image="paddock:python", line="told by an error only"))
    assert log.getvalue() == "paddock:python: 2/7 RUN \\x1b[2Jmake\n"
