"""Any profile, against rules that are written down a second time: what is not offered is denied
whatever is approved, what is to be asked is asked, and the rest is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddock import ApprovalMode, FileWriteMode, PermissionProfile, ScriptedModel, ShellMode
from paddock.runtime.service.options import RuntimeOptions
from paddock.runtime.service.runtime import create_runtime, reconfigure_runtime, run_prompt
from paddock.runtime.tools.factory import build_registry

if TYPE_CHECKING:
    from pathlib import Path

READING = {"read", "list", "glob", "grep", "read_excel"}
DANGEROUS = {"bash", "write", "edit", "delegate"}
PATTERNS = ("rm -rf", "DROP TABLE", "mkfs")
COMMANDS = ("ls", "rm -rf x", "echo 'drop table t'", "RM  -RF x", "mkfs /x", "farm -rf", "")
PATHS = ("a.txt", ".ssh/key", "/etc/passwd", "src/.bashrc")

profiles = st.builds(
    PermissionProfile,
    name=st.just("any"),
    shell=st.sampled_from(ShellMode),
    file_write=st.sampled_from(FileWriteMode),
    approval=st.sampled_from(ApprovalMode),
    required_tools=st.frozensets(st.sampled_from(sorted(READING | DANGEROUS))),
    dangerous_patterns=st.lists(st.sampled_from(PATTERNS), unique=True).map(tuple),
    bash_only=st.booleans(),
)
calls = st.one_of(
    st.sampled_from(COMMANDS).map(lambda text: ("bash", {"command": text})),
    st.sampled_from(COMMANDS).map(lambda text: ("delegate", {"instruction": text})),
    st.tuples(st.sampled_from(sorted(READING)), st.sampled_from(PATHS).map(lambda p: {"path": p})),
    st.tuples(
        st.sampled_from(["write", "edit"]),
        st.builds(lambda p, c: {"path": p, "content": c}, *map(st.sampled_from, (PATHS, COMMANDS))),
    ),
)


def offered(profile: PermissionProfile) -> set[str]:
    if profile.bash_only:
        return {"bash"}
    tools = {"bash", "read", "list", "glob", "grep", "read_excel"}
    if profile.file_write != "off":
        tools.add("write")
    if profile.file_write == "full":
        tools |= {"edit", "delegate"} if profile.shell == "unrestricted" else {"edit"}
    return tools


def asked(profile: PermissionProfile, tool: str, arguments: dict[str, Any]) -> bool:
    if profile.approval in ("all", "none"):
        return profile.approval == "all"
    if tool in profile.required_tools:
        return True
    if profile.approval == "dangerous" and tool in DANGEROUS:
        return True
    if tool in ("write", "edit"):
        return bool(arguments["path"] != "a.txt")
    if tool in READING:
        return False
    words = f" {' '.join(' '.join(arguments.values()).lower().split())}".replace("'", " ")
    return any(f" {pattern.lower()}" in words for pattern in profile.dangerous_patterns)


@pytest.mark.rows("C55", "S-42", "S-43")
@given(profiles, calls)
def test_any_profile_offers_and_asks_as_its_rules_say(
    profile: PermissionProfile, call: tuple[str, dict[str, Any]]
) -> None:
    tool, arguments = call
    registry = build_registry(profile)
    assert set(registry) == offered(profile)
    if tool in registry:
        assert registry.requires_approval(tool, arguments) is asked(profile, tool, arguments)


@pytest.mark.rows("C55", "O-13")
async def test_a_changed_profile_holds_for_the_calls_of_the_next_run(tmp_path: Path) -> None:
    call = {"name": "write", "arguments": {"path": "made.txt", "content": "x"}}
    turns: list[dict[str, Any]] = [{"tool_calls": [call]}, {"text": "Done."}]
    options = RuntimeOptions(profile="readonly", working_dir=str(tmp_path))
    async with create_runtime("Help.", options=options) as runtime:
        runtime.session._resources.given_client = ScriptedModel(turns * 3)
        told = []
        for profile in ("readonly", "developer", "readonly"):
            reconfigure_runtime(runtime, profile=profile)
            result = await run_prompt(runtime, "Write it.")
            told += [each.tool_result for each in result.events if each.type == "tool_end"]
    assert told == ["Unknown tool: write", "Created made.txt (1 bytes, 1 lines)", told[0]]
