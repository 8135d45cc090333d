"""Check the types of every program in README, docs/ and examples/ as their readers would.

Under mypy, strict, and under pyright (basedpyright, which brings its own node). Needs no network.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.pages import blocks  # noqa: E402

BIN = Path(sys.executable).parent


def write_programs(folder: Path) -> None:
    """Copy them into `folder`, away from the sources, so that paddock is what is installed."""
    for block in blocks("python"):
        (folder / f"{block.page.stem}_{block.line}.py".replace("-", "_")).write_text(block.text)
    for path in (ROOT / "examples").glob("*.py"):
        (folder / f"example_{path.name}").write_bytes(path.read_bytes())
    shutil.copytree(ROOT / "examples" / "pricing_team", folder / "examples" / "pricing_team")


def main() -> int:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_programs(folder)
        python = {"pythonVersion": "3.11", "typeCheckingMode": "standard"}
        (folder / "pyrightconfig.json").write_text(json.dumps(python))
        programs = sorted(folder.glob("*.py"))
        pyright: list[str | Path] = [
            BIN / "basedpyright",
            "--pythonpath",
            sys.executable,
            "--project",
            folder,
        ]
        # With the settings of pyproject.toml, so that mypy knows the package already.
        mypy: list[str | Path] = [BIN / "mypy", *programs]
        return max(
            subprocess.run(each, cwd=ROOT, check=False).returncode for each in (mypy, pyright)
        )


if __name__ == "__main__":
    sys.exit(main())
