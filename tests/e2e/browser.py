"""A browser without a window, to look at a page as a person does: Chromium, by its DevTools."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CHROMIUM", "Browser"]

CHROMIUM = shutil.which("chromium")

PATIENCE = 100.0
"""Seconds for an answer, on a machine ten times as busy as ours."""

_OPTIONS = (
    *("--headless", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--remote-debugging-pipe"),
)


def _pipe() -> tuple[int, int]:
    """Return a pipe whose descriptors are none of 3 and 4."""
    ends = os.pipe()
    high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10) for each in ends]
    for each in ends:
        os.close(each)
    return high[0], high[1]


class Browser:
    """Chromium with one page open. `requested` are the addresses that it asked for, `errors` what
    its console says of errors and of what the page's policy refused."""

    def __init__(self, folder: Path) -> None:
        self.requested: list[str] = []
        self.errors: list[str] = []
        ours_in, theirs_out = _pipe()
        theirs_in, ours_out = _pipe()
        self._in, self._out = ours_in, ours_out
        self._data, self._number, self._session = b"", 0, ""
        self._loaded = False
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [str(CHROMIUM), *_OPTIONS, *root, f"--user-data-dir={folder}", "about:blank"]
        try:
            self._process = subprocess.Popen(  # the pipe's numbers are 3 and 4 there
                ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command],
                pass_fds=(theirs_in, theirs_out),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)

    def __enter__(self) -> Self:
        try:
            target = self._call("Target.createTarget", url="about:blank")["targetId"]
            attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Network", "Log"):
                self._call(f"{domain}.enable")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._out)  # it ends itself then
        try:
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._in)

    def open(self, address: str) -> None:
        """Open a page anew; return when its script has run."""
        for each in ("about:blank", address):
            self._loaded = False
            self._call("Page.navigate", url=each)
            deadline = time.monotonic() + PATIENCE
            while not self._loaded:
                self._note(self._next(deadline))
        assert self.evaluate("document.documentElement.dataset.ready") == "yes", self.errors

    def evaluate(self, expression: str) -> Any:
        """Return the value of JavaScript, awaited if it is a promise."""
        found = self._call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def prefer(self, theme: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": theme}
        self._call("Emulation.setEmulatedMedia", features=[feature])

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._data:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._in, 1 << 20) if ready else b""
            assert data, "Chromium does not answer"
            self._data += data
        line, _, self._data = self._data.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requested.append(params["request"]["url"])
            case "Log.entryAdded":
                self.errors.append(params["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"]))
            case _:
                pass
