"""The toolbox daemon of one sandbox: real commands and files, with the real daemon's ways."""

from paddock.testing.daytona.toolbox.service import Toolbox

__all__ = ["Toolbox"]
