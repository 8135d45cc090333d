"""Where programs are; no I/O but looks at files."""

from __future__ import annotations

import errno
import os
import stat


def find_program(program: str, path: str) -> str:
    """Where a program is by PATH; looked up before the spawn, as a failed spawn is dear."""
    if "/" in program:
        return program
    refused: OSError | None = None
    for folder in path.split(":"):
        file = os.path.join(folder or ".", program)
        try:
            mode = os.stat(file).st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode):
            if os.access(file, os.X_OK):
                return file
            refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES), file)
    raise refused or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
