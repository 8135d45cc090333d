"""Profiles: where they are found, how their files are read, which calls they ask about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from paddock.errors import ConfigError
from paddock.runtime.permissions.profile import (
    DANGEROUS_PATTERNS,
    DANGEROUS_TOOLS,
    ApprovalMode,
    CapabilityProfile,
    DatabaseMode,
    FileWriteMode,
    PermissionProfile,
    ShellFence,
    ShellMode,
    load_profile,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.rows("S-39")
def test_no_profile_means_readonly() -> None:
    profile = load_profile(None)
    assert profile is load_profile("readonly")
    assert profile.shell is ShellMode.RESTRICTED
    assert profile.file_write is FileWriteMode.OFF
    assert profile.database is DatabaseMode.READONLY
    assert profile.approval is ApprovalMode.DANGEROUS
    assert profile.shell_timeout == 120


@pytest.mark.rows("S-39")
def test_developer_may_run_and_write_anything_and_asks_about_two_databases() -> None:
    profile = load_profile("developer")
    assert profile.shell is ShellMode.UNRESTRICTED
    assert profile.file_write is FileWriteMode.FULL
    assert profile.database is DatabaseMode.READONLY
    assert profile.approval is ApprovalMode.GRANULAR
    assert profile.required_tools == {"oracle", "mysql"}
    assert profile.shell_timeout == 300


@pytest.mark.rows("S-39")
def test_eval_is_another_name_of_unrestricted() -> None:
    profile = load_profile("eval")
    assert profile is load_profile("unrestricted")
    assert profile.shell is ShellMode.UNRESTRICTED
    assert profile.file_write is FileWriteMode.FULL
    assert profile.database is DatabaseMode.MUTATIONS
    assert profile.approval is ApprovalMode.NONE
    assert profile.shell_working_dir == "/app"


@pytest.mark.rows("S-39")
def test_the_packaged_bash_only_profile_is_found_by_name() -> None:
    profile = load_profile("developer-bash-only")
    assert profile.bash_only
    assert profile.shell is ShellMode.UNRESTRICTED


def test_a_profile_object_is_used_as_it_is() -> None:
    profile = CapabilityProfile(name="mine")
    assert load_profile(profile) is profile


def test_the_users_profiles_come_before_the_packaged_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda _: tmp_path)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "developer-bash-only.yaml").write_text("profile: mine\n")
    assert load_profile("developer-bash-only").name == "mine"


def test_a_built_in_name_comes_before_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "readonly").write_text("profile: other\nshell: unrestricted\n")
    monkeypatch.chdir(tmp_path)
    assert load_profile("readonly").shell is ShellMode.RESTRICTED


@pytest.mark.rows("S-40")
def test_a_profile_is_looked_for_built_in_then_as_a_path_then_as_the_users_then_as_packaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_config_path", lambda _: tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    users = tmp_path / "config" / "profiles"
    users.mkdir(parents=True)
    for name in ("developer", "developer-bash-only"):
        (tmp_path / name).write_text("profile: a path\n")
        (users / f"{name}.yaml").write_text("profile: the user's\n")
    assert load_profile("developer").name == "developer"
    assert load_profile("developer-bash-only").name == "a path"
    (tmp_path / "developer-bash-only").unlink()
    assert load_profile("developer-bash-only").name == "the user's"
    (users / "developer-bash-only.yaml").unlink()
    assert load_profile("developer-bash-only").bash_only
    with pytest.raises(ValueError, match=r"^Unknown profile: developer-bash "):
        load_profile("developer-bash")


@pytest.mark.rows("S-40")
@pytest.mark.parametrize("name", ["nobody", "", "../developer-bash-only", "/no/such.yaml", "."])
def test_an_unknown_profile_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^Unknown profile: .*readonly.*, developer-bash-only\)$"
    ):
        load_profile(name)


def _load(tmp_path: Path, text: str) -> PermissionProfile:
    path = tmp_path / "profile.yaml"
    path.write_text(text)
    return load_profile(path)


@pytest.mark.rows("S-41")
def test_a_file_in_its_long_form_is_read(tmp_path: Path) -> None:
    profile = _load(
        tmp_path,
        """
        profile: careful
        description: Creates, never replaces.
        shell: {mode: unrestricted}
        file_write: {mode: create-only}
        database: {mode: mutations}
        approval:
          mode: granular
          required_tools: [bash]
          dangerous_patterns: [shutdown]
        shell_timeout: 5.5
        shell_working_dir: /srv
        bash_only: true
        """,
    )
    assert profile == PermissionProfile(
        name="careful",
        description="Creates, never replaces.",
        shell=ShellMode.UNRESTRICTED,
        file_write=FileWriteMode.CREATE_ONLY,
        database=DatabaseMode.MUTATIONS,
        approval=ApprovalMode.GRANULAR,
        required_tools=frozenset({"bash"}),
        dangerous_patterns=("shutdown",),
        shell_timeout=5.5,
        shell_working_dir="/srv",
        bash_only=True,
    )


@pytest.mark.rows("S-41")
@pytest.mark.parametrize("text", ["file_write: off", "file_write: {mode: off}"])
def test_off_is_off_although_yaml_reads_false(tmp_path: Path, text: str) -> None:
    assert _load(tmp_path, f"name: x\n{text}\n").file_write is FileWriteMode.OFF


@pytest.mark.rows("S-41")
def test_a_bare_value_stands_for_its_mode(tmp_path: Path) -> None:
    profile = _load(
        tmp_path,
        "name: x\nshell: unrestricted\nfile_write: create-only\n"
        "database: mutations\napproval: none\n",
    )
    assert profile.shell is ShellMode.UNRESTRICTED
    assert profile.file_write is FileWriteMode.CREATE_ONLY
    assert profile.database is DatabaseMode.MUTATIONS
    assert profile.approval is ApprovalMode.NONE
    assert profile.dangerous_patterns == DANGEROUS_PATTERNS
    assert profile.shell_timeout == 120
    assert not profile.bash_only


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("profile: x\nshel: restricted\n", "shel"),
        ("profile: x\nshell: {mod: restricted}\n", "shell.mod"),
        ("profile: x\nshell: loose\n", "shell.mode"),
        ("profile: x\nshell: {fence: none}\n", "shell.fence"),
        ("profile: x\nshell: {network: perhaps}\n", "shell.network"),
        ("profile: x\nshell: {mode: unrestricted, fence: landlock}\n", "restricted shell only"),
        ("profile: x\nshell: {mode: unrestricted, network: true}\n", "restricted shell only"),
        ("profile: x\nshell: {fence: allow-list, network: true}\n", "'fence: landlock'"),
        ("profile: x\nfile_write: true\n", "file_write.mode"),
        ("profile: x\nshell_timeout: -1\n", "shell_timeout"),
        ("profile: x\nshell_timeout: .inf\n", "shell_timeout"),
        ("profile: x\napproval: {dangerous_patterns: ['']}\n", "approval.dangerous_patterns"),
        ("shell: restricted\n", "profile"),
        ("profile: x\nshell: restricted\nshell: unrestricted\n", "shell"),
        ("profile: x\nprofile: y\n", "line 2: 'profile' is given twice"),
        ("profile: x\nshell: {mode: restricted, mode: unrestricted}", "line 2: 'mode' is given"),
        ("profile: x\nshell: &s {mode: restricted}\ndatabase: {<<: *s}", "merge keys"),
        ("1: x\n", "1"),
    ],
)
def test_a_mistake_in_a_file_names_the_file_and_the_key(
    tmp_path: Path, text: str, key: str
) -> None:
    with pytest.raises(ConfigError, match=r"profile\.yaml") as caught:
        _load(tmp_path, text)
    assert key in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n", "x: [", "just text", "", "a: !!python/name:os.system\n"])
def test_what_is_no_yaml_mapping_is_a_config_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        _load(tmp_path, text)


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="larger"):
        _load(tmp_path, "#" * 100_000)


def test_a_mode_given_as_text_is_that_mode_and_not_a_way_around_it() -> None:
    fields: dict[str, Any] = {"shell": "restricted", "dangerous_patterns": ["x"]}
    profile = PermissionProfile(name="x", **fields)
    assert profile.shell is ShellMode.RESTRICTED
    assert profile.dangerous_patterns == ("x",)
    with pytest.raises(ConfigError, match="loose"):
        PermissionProfile(name="x", shell="loose")  # type: ignore[arg-type]


def test_a_restricted_shell_is_fenced_by_landlock_unless_the_profile_says_otherwise(
    tmp_path: Path,
) -> None:
    assert load_profile("readonly").shell_fence is ShellFence.LANDLOCK
    assert not load_profile("readonly").shell_network
    accepted = _load(tmp_path, "profile: x\nshell: {fence: allow-list}\n")
    assert (accepted.shell, accepted.shell_fence) == (ShellMode.RESTRICTED, ShellFence.ALLOW_LIST)
    reaching = _load(tmp_path, "profile: x\nshell: {network: true}\n")
    assert (reaching.shell_fence, reaching.shell_network) == (ShellFence.LANDLOCK, True)
    with pytest.raises(ConfigError, match="bwrap"):
        PermissionProfile(name="x", shell_fence="bwrap")  # type: ignore[arg-type]


_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)
PROFILES = st.builds(
    PermissionProfile,
    name=_TEXT,
    description=_TEXT,
    shell=st.sampled_from(ShellMode),
    shell_fence=st.sampled_from(ShellFence),
    shell_network=st.booleans(),
    file_write=st.sampled_from(FileWriteMode),
    database=st.sampled_from(DatabaseMode),
    approval=st.sampled_from(ApprovalMode),
    required_tools=st.frozensets(_TEXT),
    dangerous_patterns=st.lists(_TEXT.filter(str.strip)).map(tuple),
    shell_timeout=st.floats(min_value=0.1, max_value=1e6),
    shell_working_dir=st.none() | _TEXT,
    bash_only=st.booleans(),
)


@pytest.mark.rows("S-41")
@given(PROFILES)
def test_the_dict_form_gives_an_equal_profile_back_also_through_yaml(
    profile: PermissionProfile,
) -> None:
    assert PermissionProfile.from_dict(profile.to_dict()) == profile
    assert PermissionProfile.from_dict(yaml.safe_load(yaml.safe_dump(profile.to_dict()))) == profile


def _asks(mode: ApprovalMode, tool: str, **arguments: object) -> bool:
    profile = PermissionProfile(name="x", approval=mode, required_tools=frozenset({"mysql"}))
    return profile.requires_approval(tool, arguments)


def test_all_asks_for_everything_and_none_for_nothing() -> None:
    assert _asks(ApprovalMode.ALL, "read", path="x")
    assert not _asks(ApprovalMode.NONE, "mysql", sql="DROP TABLE x")


@pytest.mark.rows("S-42")
def test_dangerous_asks_for_the_dangerous_tools() -> None:
    dangerous = {
        "bash", "write", "edit", "oracle", "mysql", "sqlite", "vertica", "postgres", "delegate",
    }  # fmt: skip
    assert dangerous == set(DANGEROUS_TOOLS)
    assert all(_asks(ApprovalMode.DANGEROUS, tool) for tool in dangerous)
    assert not _asks(ApprovalMode.DANGEROUS, "read", path="x")


def test_granular_asks_for_the_tools_it_names() -> None:
    assert _asks(ApprovalMode.GRANULAR, "mysql", sql="SELECT 1")
    assert not _asks(ApprovalMode.GRANULAR, "bash", command="make test")


@pytest.mark.parametrize("mode", [ApprovalMode.DANGEROUS, ApprovalMode.GRANULAR])
@pytest.mark.parametrize("pattern", DANGEROUS_PATTERNS)
def test_every_dangerous_pattern_is_consulted(mode: ApprovalMode, pattern: str) -> None:
    assert _asks(mode, "custom", nested={"list": [f"true; {pattern} x"]})
    assert _asks(mode, "custom", text=f"{pattern.upper()}x")


@pytest.mark.rows("S-42")
@pytest.mark.parametrize(
    "command",
    [
        "rm -rf x", "rm -r x", "DROP TABLE x", "DROP DATABASE x", "TRUNCATE x", "DELETE FROM x",
        "echo > /dev/sda", ":(){ :|:& };:", "mkfs /dev/sda", "dd if=x of=y",
    ],
)  # fmt: skip
def test_the_dangers_that_are_known_from_elsewhere_are_known_here(command: str) -> None:
    assert load_profile("developer").requires_approval("bash", {"command": f"cd a; {command}"})
    own = PermissionProfile.from_dict({
        "name": "x", "approval": {"mode": "granular", "dangerous_patterns": ["shutdown"]},
    })  # fmt: skip
    assert not own.requires_approval("bash", {"command": command})
    assert own.requires_approval("bash", {"command": "shutdown now"})


@pytest.mark.parametrize(
    "command", ["rm   -RF /", "rm\t-r\nx", "echo >/dev/sda", "x; drop\n table y"]
)
def test_case_and_white_space_do_not_hide_a_pattern(command: str) -> None:
    assert _asks(ApprovalMode.GRANULAR, "bash", command=command)


@pytest.mark.parametrize(
    "command", ["ls >/dev/null", "ls 2> /dev/null", "farm -r x", "make >/dev/stderr"]
)
def test_what_only_looks_like_a_pattern_is_not_asked_about(command: str) -> None:
    assert not _asks(ApprovalMode.GRANULAR, "bash", command=command)


def test_the_text_of_files_is_data_and_not_asked_about() -> None:
    assert not _asks(ApprovalMode.GRANULAR, "write", path="a.sql", content="DROP TABLE x;")
    assert not _asks(ApprovalMode.GRANULAR, "grep", pattern="rm -rf")


@pytest.mark.parametrize(
    "path",
    [
        ".git/hooks/pre-commit", "a/.GIT/config", ".bashrc", "/home/u/.ssh/authorized_keys",
        "x/../.mcp.json", "/etc/passwd", "//usr/bin/x", ".vscode/tasks.json", ".idea/x",
        ".claude/commands/x.md", '".bashrc"', "~/.zshrc", ".config/x", ".aws/credentials",
        "a\n/.profile",
    ],
)  # fmt: skip
@pytest.mark.parametrize("tool", ["write", "edit"])
@pytest.mark.rows("C22")
def test_a_write_to_a_protected_path_is_asked_about(tool: str, path: str) -> None:
    assert _asks(ApprovalMode.GRANULAR, tool, path=path)


@pytest.mark.parametrize(
    "path", ["src/a.py", ".github/workflows/ci.yml", "git/hooks/x", "/usr/src/app/a.py", "etc/x"]
)
def test_a_write_to_an_ordinary_path_is_not(path: str) -> None:
    assert not _asks(ApprovalMode.GRANULAR, "write", path=path)
    assert not _asks(ApprovalMode.GRANULAR, "read", path=".bashrc")
