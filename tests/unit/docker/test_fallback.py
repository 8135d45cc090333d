"""Which images of the Docker backend get sandboxes without a guest."""

from __future__ import annotations

import pytest

from paddock.backends.docker.containers.guests import GuestNotStarted
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
        (GuestNotStarted("x\nModuleNotFoundError: No module 'json'"), True),
        (GuestNotStarted("python3: error while loading shared libraries: libz.so.1"), True),
        (GuestNotStarted("exec user process caused: exec format error"), True),
        (GuestNotStarted("Fatal Python error: init_fs_encoding: failed"), True),
        (GuestNotStarted("its container ended (exit 139)"), True),
        (GuestNotStarted("its container ended (exit 0)"), True),
        (GuestNotStarted("Traceback (most recent call last):\nOSError: No space left"), False),
        (GuestNotStarted("its memory ran out (OOM) and the kernel killed it"), False),
        (GuestNotStarted("its container was killed or removed from outside (exit 137)"), False),
        (GuestNotStarted("its container ended (exit 137)"), False),
        (GuestNotStarted("the Docker Engine is gone"), False),
        (SandboxLost("its guest did not answer within 60 s"), False),
    ],
)
def test_only_the_want_of_a_python_is_one(error: EngineError | SandboxLost, lacks: bool) -> None:
    assert lacks_python(error) is lacks
