"""A sandbox as a toolbox: made when it is needed, replaced when it was lost, never told secrets."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from paddock import LocalBackend
from paddock.runtime.mcp.sandbox import SandboxToolbox
from paddock.runtime.mcp.toolbox import ToolRequest
from paddock.runtime.tools.transfer import FileOutput

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.runtime.core.tool import ToolOutput

LOCAL = LocalBackend(isolation="none")


async def call(box: SandboxToolbox, name: str, **arguments: Any) -> ToolOutput:
    return await box.call(ToolRequest(name=name, arguments=arguments, report=lambda text: None))


def names(box: SandboxToolbox) -> set[str]:
    return {tool.name for tool in box.tools()}


def test_the_profile_says_which_tools_there_are() -> None:
    assert {"bash", "write", "edit", "upload", "download", "url"} <= names(SandboxToolbox(LOCAL))
    readonly = names(SandboxToolbox(LOCAL, profile="readonly"))
    assert {"bash", "read", "download", "url"} <= readonly
    assert not {"write", "edit", "upload", "delegate"} & readonly


async def test_the_profile_says_which_calls_need_an_approval() -> None:
    async def gated(profile: str, name: str, **arguments: Any) -> bool:
        box = SandboxToolbox(LOCAL, profile=profile)
        return await box.approval(name, arguments) is not None

    assert await gated("developer", "bash", command="rm -rf x")
    assert not await gated("developer", "bash", command="ls")
    assert await gated("developer", "upload", path=".git/hooks/pre-commit", data="")
    assert not await gated("developer", "upload", path="a", data="")
    assert await gated("readonly", "bash", command="ls")
    assert not await gated("unrestricted", "bash", command="rm -rf x")
    box = SandboxToolbox(LOCAL, auto_approve=True)
    assert await box.approval("bash", {"command": "rm -rf x"}) is None


async def test_a_sandbox_that_was_lost_is_replaced() -> None:
    async with SandboxToolbox(LOCAL) as box:
        await call(box, "write", path="a", content="x")
        await (await box._get_sandbox()).aclose()
        assert "a" not in (await call(box, "list")).content
        assert (await call(box, "bash", command="echo again")).success


async def test_a_sandbox_that_cannot_be_made_is_said_and_tried_again() -> None:
    async with SandboxToolbox(LocalBackend(isolation="none", setup=["exit 3"])) as box:
        for _ in range(2):
            output = await call(box, "bash", command="ls")
            assert not output.success
            assert "The sandbox cannot be made" in output.content
            assert "exit 3" in output.content


async def test_secrets_are_taken_out_of_results() -> None:
    backend = LocalBackend(isolation="none", secrets={"TOKEN": "t0ken-of-mine"})
    async with SandboxToolbox(backend) as box:
        shown = await call(box, "bash", command="echo $TOKEN; echo $TOKEN > f")
        assert "t0ken-of-mine" not in shown.content
        assert "[secret TOKEN]" in shown.content
        file = await call(box, "download", path="f")
        assert isinstance(file, FileOutput)
        assert file.data == b"[secret TOKEN]\n"


async def test_files_go_both_ways_byte_for_byte() -> None:
    data = bytes(range(256)) * 100
    async with SandboxToolbox(LOCAL) as box:
        await call(box, "upload", path="d/x.bin", data=base64.b64encode(data).decode())
        file = await call(box, "download", path="d/x.bin")
        assert isinstance(file, FileOutput)
        assert file.data == data


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("upload", {"path": "x", "data": "no base64!"}, "not base64"),
        ("upload", {"path": "x"}, "give either data or"),
        ("upload", {"path": "x", "data": "", "shared_path": "y"}, "unknown argument 'shared_path'"),
        ("download", {"path": "missing"}, "File not found"),
        ("download", {"path": "."}, "Not a file"),
        ("url", {"port": 0}, "at least 1"),
    ],
)
async def test_what_cannot_be_moved_is_said(
    name: str, arguments: dict[str, Any], told: str
) -> None:
    async with SandboxToolbox(LOCAL) as box:
        output = await call(box, name, **arguments)
    assert not output.success
    assert told in output.content


async def test_a_shared_directory_is_not_left(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "shared" / "link").symlink_to(tmp_path)
    async with SandboxToolbox(LOCAL, shared=tmp_path / "shared") as box:
        for path in ("../secret", "link/secret", str(tmp_path / "secret"), "/etc/passwd"):
            output = await call(box, "upload", path="x", shared_path=path)
            assert "is not in the shared directory" in output.content
            output = await call(box, "download", path=".", shared_path=f"{path}-new")
            assert "is not in the shared directory" in output.content
        await call(box, "bash", command="mkdir t; echo 1 > t/a; ln -s /etc/passwd t/out")
        assert (await call(box, "download", path="t", shared_path="t")).success
        assert sorted(each.name for each in (tmp_path / "shared/t").iterdir()) == ["a"]
        assert (await call(box, "upload", path="again", shared_path="t")).success
        assert "1" in (await call(box, "read", path="again/a")).content
