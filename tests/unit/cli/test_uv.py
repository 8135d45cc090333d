"""What sees to uv in a sandbox, in a home of this machine that has no network."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from paddock.backends.uv import install_command, require_command

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.rows("S-58")

INSTALLER = """\
#!/bin/sh
echo "echo 'echo uv 0.9.5 built today' >"'"$UV_INSTALL_DIR/uv"; chmod +x "$UV_INSTALL_DIR/uv"'
"""


@dataclass(frozen=True)
class Machine:
    """A home with `~/.local/bin` on PATH, and programs that stand in for those of a network."""

    home: Path

    def program(self, name: str, text: str) -> None:
        path = self.home / "stubs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.home}/.local/bin:{self.home}/stubs:/usr/bin:/bin"
        return subprocess.run(
            ["sh", "-c", command],
            env={"HOME": str(self.home), "PATH": path},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.fixture
def offline(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    for name in ("curl", "wget", "python3"):
        machine.program(name, f"#!/bin/sh\necho {name}: no network >&2; exit 6\n")
    return machine


@pytest.mark.rows("S-55", "S-56")
@pytest.mark.parametrize("fetcher", ["curl", "wget"])
def test_uv_is_installed_where_later_commands_find_it(offline: Machine, fetcher: str) -> None:
    offline.program(fetcher, INSTALLER)
    done = offline.run(install_command("0.9.5"))
    assert done.returncode == 0, done.stderr
    assert (offline.home / ".local/bin/uv").exists()
    assert offline.run(require_command("0.9.5")).returncode == 0


def test_uv_of_that_version_is_left_as_it_is(offline: Machine) -> None:
    offline.program("uv", "#!/bin/sh\necho uv 0.9.5\n")
    for command in (install_command("0.9.5"), require_command("0.9.5")):
        done = offline.run(command)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_uv_of_another_version_is_not_enough(offline: Machine) -> None:
    offline.program("uv", "#!/bin/sh\necho uv 0.9.50\n")
    assert offline.run(require_command("0.9.5")).returncode == 1
    offline.program("curl", INSTALLER)
    assert offline.run(install_command("0.9.5")).returncode == 0


def test_without_a_network_it_says_what_to_do(offline: Machine) -> None:
    done = offline.run(install_command("0.9.5"))
    assert done.returncode == 1
    assert "curl: no network" in done.stderr
    assert "python3: no network" in done.stderr
    assert "uv 0.9.5 could not be installed" in done.stderr
    assert "put it into the image" in done.stderr
    assert "install it" in offline.run(require_command("0.9.5")).stderr.lower()
