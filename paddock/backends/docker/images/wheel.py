"""The Paddock that runs here, as a wheel: made of the files that are installed.

It needs no build tool and no network, and is the same, byte for byte, for the same files.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import paddock

__all__ = ["running_wheel"]

EPOCH = (2020, 1, 1, 0, 0, 0)
"""Of every file in it: a zip knows no time before 1980."""
UNWANTED = {"__pycache__"}


def running_wheel() -> tuple[str, bytes]:
    """The wheel's name and content; blocks."""
    found = distribution("paddock")
    stem = f"paddock-{found.version}"
    info = f"{stem}.dist-info"
    files = _package_files()
    for name in ("METADATA", "entry_points.txt"):
        files[f"{info}/{name}"] = (found.read_text(name) or "").encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: paddock\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    rows = [f"{name},sha256={_hash(data)},{len(data)}" for name, data in sorted(files.items())]
    record = f"{info}/RECORD"
    files[record] = "\n".join([*rows, f"{record},,", ""]).encode()
    return f"{stem}-py3-none-any.whl", _zip(files)


def _package_files() -> dict[str, bytes]:
    """Return the contents of the wheel that users install: the package with the recipes in it."""
    package = Path(paddock.__file__).parent
    files = _tree(package, "paddock")
    if not (package / "images").is_dir():
        files |= _tree(package.parent / "images", "paddock/images")
    return files


def _tree(root: Path, prefix: str) -> dict[str, bytes]:
    return {
        f"{prefix}/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not UNWANTED & set(path.parts)
    }


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _zip(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data, zipfile.ZIP_DEFLATED)
    return content.getvalue()
