"""Which images of the Docker backend get sandboxes without a guest."""

from __future__ import annotations

import pytest

from paddock.backends.docker.engine.client import EngineError
from paddock.backends.docker.fallback.launch import lacks_python
from paddock.errors import SandboxLost


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (EngineError('exec: "python3": executable file not found in $PATH: unknown'), True),
        (EngineError('exec: \\"python3\\": executable file not found in $PATH'), True),
        (EngineError('exec: "sh": executable file not found in $PATH'), False),
        (EngineError("no space left on device"), False),
        (SandboxLost("its guest did not start: x\nModuleNotFoundError: No module 'json'"), True),
        (SandboxLost("its guest did not start: x\nOSError: No space left on device"), False),
    ],
)
def test_only_the_want_of_a_python_is_one(error: EngineError | SandboxLost, lacks: bool) -> None:
    assert lacks_python(error) is lacks
