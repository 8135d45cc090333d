"""Check what people will install: build an sdist, a wheel from it, and run that wheel.

The wheel must hold every file that git knows below `paddock` and `images`, and no other.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What `command` prints; ends this program with its whole output if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(
            f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def tracked() -> set[str]:
    """Files that git knows and that should be in the wheel, by their names there."""
    # A clone may belong to another user than the one who builds.
    names = run("git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "paddock", "images")
    wanted = set(filter(None, names.split("\0")))
    return {f"paddock/{name}" if name.startswith("images/") else name for name in wanted}


def build(target: Path) -> Path:
    """The wheel, built from the sdist and not from the checkout."""
    run(sys.executable, "-m", "build", "--outdir", target, ".")
    (wheel,) = target.glob("*.whl")
    return wheel


def compare(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = tracked()
    lines = [f"in git, not in the wheel: {name}" for name in sorted(wanted - packed)]
    lines += [f"in the wheel, not in git: {name}" for name in sorted(packed - wanted)]
    if lines:
        sys.exit("\n".join(lines))
    print(f"{wheel.name}: {len(packed)} files, as in git")


def try_out(wheel: Path, scratch: Path) -> None:
    """Install into an environment that has nothing else, and use it away from the checkout."""
    environment = scratch / "environment"
    run(sys.executable, "-m", "venv", environment)
    constraints = ROOT / "constraints.txt"
    run(environment / "bin/python", "-m", "pip", "install", "-q", "-c", constraints, wheel)
    print(run(environment / "bin/paddock", "--version", cwd=scratch).strip())
    kept = scratch / "sessions"
    demo = run(environment / "bin/paddock", "demo", "-n", "1", "--session-dir", kept, cwd=scratch)
    print(demo.strip().splitlines()[-1])


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="paddock-package-") as name:
        scratch = Path(name)
        wheel = build(scratch / "dist")
        compare(wheel)
        try_out(wheel, scratch)


if __name__ == "__main__":
    main()
