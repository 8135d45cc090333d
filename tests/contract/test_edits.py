"""The edit tool against somebody else who writes the same file, on real files.

Row C21 of the reliability document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from paddock.runtime.core.tool import ToolInvocation
from paddock.runtime.tools.factory import build_registry
from tests.lending import lending

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox

pytestmark = pytest.mark.rows("C21")


@pytest.mark.parametrize(
    ("before", "meanwhile", "after"),
    [
        (b"one\ntwo\n", "echo three >> f", b"one\ntwo\nthree\n"),
        (b"one\ntwo\n", "printf 'one\\nTWO\\n' > f", b"one\nTWO\n"),  # of the same size
        (b"one\ntwo", "echo >> f", b"one\ntwo\n"),
        (b"one\r\ntwo\r\n", "printf 'one\\ntwo\\n' > f", b"one\ntwo\n"),
        (b"one\ntwo\n", "echo other > g; mv g f", b"other\n"),
        (b"one\ntwo\n", "rm f", None),
        (b"one\ntwo\n", "rm f; mkfifo f", None),
    ],
)
async def test_an_edit_of_a_file_that_changed_since_it_was_read_is_a_conflict(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    before: bytes,
    meanwhile: str,
    after: bytes | None,
) -> None:
    await sandbox.fs.write_bytes("f", before)
    read = sandbox.fs.read_bytes

    async def read_too_early(*args: Any, **options: Any) -> bytes:
        data = await read(*args, **options)
        await sandbox.exec(meanwhile, check=True)
        return data

    with monkeypatch.context() as patch:
        patch.setattr(sandbox.fs, "read_bytes", read_too_early)
        output = await build_registry("developer").dispatch(
            ToolInvocation(
                call_id="1",
                tool_name="edit",
                arguments={"path": "f", "old_string": "one", "new_string": "1"},
                context=lending(sandbox),
            )
        )
    assert not output.success
    if after is not None:
        assert "was changed meanwhile, nothing was written" in output.content
        assert await sandbox.fs.read_bytes("f") == after
    else:
        assert not (await sandbox.exec("test -f f")).ok
    assert (await sandbox.exec("ls -A")).stdout in ("f\n", "")
