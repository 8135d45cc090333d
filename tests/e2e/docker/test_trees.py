"""Trees of a container, whose directories lie in several layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox


async def test_a_directory_of_the_image_is_removed_with_all_below(sandbox: Sandbox) -> None:
    # The kernel moves no directory that is in a lower layer to another parent.
    nested = await sandbox.exec("find /usr/share -mindepth 3 -type d | wc -l", check=True)
    assert int(nested.stdout) > 10
    await sandbox.exec("mkdir -p /usr/share/ours/d && touch /usr/share/ours/d/f", check=True)
    await sandbox.fs.remove("/usr/share", recursive=True)
    assert not await sandbox.fs.exists("/usr/share")
