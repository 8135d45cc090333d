"""Copies of directories inside a sandbox."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from paddock.testing.conformance.base import Conformance, needs

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox

TREE = r"""
mkdir -p tree/a/b tree/empty tree/closed outside/kept
printf one > tree/a/f; printf two > "tree/a/b/a
name"; printf x > outside/kept/x; ln tree/a/f tree/hard
chmod 640 tree/a/f; chmod 555 tree/closed; chmod 711 tree/a
ln -s a/f tree/link; ln -s ../outside tree/out; ln -s nothing tree/dangling; ln -s loop tree/loop
ln -s /etc/passwd tree/absolute; printf '#!' > tree/run
chmod 755 tree/run; chmod 4755 tree/run 2>/dev/null || :  # where that is allowed
touch -d '2001-02-03 04:05:06' tree/a/f tree/a/b tree
"""
LOOK = r"""
find . -type d -exec stat -c '%n %a' {} + | sort
find . -type f -exec stat -c '%n %a %s %Y' {} + | sort
find . -type l -exec sh -c 'for l; do echo "$l $(readlink "$l")"; done' sh {} + | sort
stat -c '%Y' . a/b; cat a/b/a*
"""


class CopyTests(Conformance):
    @needs("shell")
    async def test_a_directory_is_copied_with_its_links_as_they_are(self, sandbox: Sandbox) -> None:
        fs = sandbox.fs
        await sandbox.exec(TREE, check=True)
        await fs.copy("tree", "new/copy")
        await sandbox.exec(
            "chmod 755 tree/run; ln -s tree way", check=True
        )  # set-id bits are not kept
        looked = [await sandbox.exec(LOOK, cwd=where, check=True) for where in ("tree", "new/copy")]
        assert looked[1].stdout == looked[0].stdout
        await sandbox.exec("printf changed > new/copy/hard", check=True)
        assert await fs.read_text("new/copy/a/f") == await fs.read_text("tree/a/f") == "one"
        await fs.copy("way", "through")
        assert (await fs.lstat("through")).kind == "directory"
        assert (await sandbox.exec("ls -A . new")).stdout.split() == (
            [".:", "new", "outside", "through", "tree", "way", "new:", "copy"]
        )

    async def test_a_directory_is_copied_whole_or_not_at_all(self, sandbox: Sandbox) -> None:
        fs = sandbox.fs
        await sandbox.exec(
            "mkdir -p a/b there special; echo > a/f; echo > file; ln -s nothing dangling;"
            "ln -s a in; mkfifo special/pipe",
            check=True,
        )
        before = (await sandbox.exec("find . | sort")).stdout
        for source, destination, wanted in (
            ("a", "there", FileExistsError(errno.EEXIST, "")),
            ("a", "file", FileExistsError(errno.EEXIST, "")),
            ("a", "dangling", FileExistsError(errno.EEXIST, "")),
            ("a", "file/below", NotADirectoryError(errno.ENOTDIR, "")),
            ("a", "a", FileExistsError(errno.EEXIST, "")),
            ("a", "a/f/below/this", NotADirectoryError(errno.ENOTDIR, "")),
            ("a", "a/b/c/d", OSError(errno.EINVAL, "")),
            ("a", "in/c", OSError(errno.EINVAL, "")),
            ("in", "a/b/c", OSError(errno.EINVAL, "")),
            ("special", "c", OSError(errno.EINVAL, "")),
            ("absent", "c", FileNotFoundError(errno.ENOENT, "")),
            ("file/a", "c", NotADirectoryError(errno.ENOTDIR, "")),
        ):
            with pytest.raises(type(wanted)) as raised:
                await fs.copy(source, destination)
            assert raised.value.errno == wanted.errno, (source, destination)
            assert (await sandbox.exec("find . | sort")).stdout == before, (source, destination)
