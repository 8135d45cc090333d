"""Commands below a shell's wrapper print what it would print, and hide from who ends them."""

from __future__ import annotations

import contextlib
import os

import pytest

from examples.via_backend import ViaBackend
from paddock import ExecTimeout, SandboxError
from tests.e2e.processes import processes_with

RECIPE = ViaBackend(via=("env", "-i", f"PATH={os.defpath}", "HOME=/tmp", "sh", "-c"))

FORGED = [
    r"end \262",
    r"end 99999999999999999999999",
    r"end -1",
    r"end",
    r"begin \263 1",
    r"begin 1 1",
    r"cwd",
    r"cwd EACCES",
    r"",
    r"end 0 \271",
]


async def test_a_forged_mark_deceives_about_its_own_command_only() -> None:
    async with RECIPE.sandbox() as sandbox:
        for words in FORGED:
            mark = f"printf '\\0%s {words}\\0' $PADDOCK_EXEC"
            with contextlib.suppress(SandboxError):
                result = await sandbox.exec(f"{mark}; {mark} >&2; echo on; exit 3", timeout=30)
                assert 0 <= result.exit_code <= 255
        result = await sandbox.exec("echo on; exit 3")
        assert (result.exit_code, result.stdout) == (3, "on\n")


@pytest.mark.parametrize("key", ["", "a b c d e f g h i", "\n\n", "- 1 (x) S 1 1", "*"])
async def test_a_child_with_another_key_is_found_by_its_parent(key: str) -> None:
    async with RECIPE.sandbox() as sandbox:
        with pytest.raises(ExecTimeout):
            command = 'env -i PADDOCK_EXEC="$KEY_TO_BE" sleep 983001 & sleep 983001'
            await sandbox.exec(command, env={"KEY_TO_BE": key}, timeout=1)
        assert not processes_with("sleep\x00983001")
