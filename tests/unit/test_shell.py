"""The restricted shell: what it lets through, what it refuses, and what it makes of a line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddock.runtime.permissions.restricted_shell import Allowed, Blocked, check_command
from paddock.runtime.permissions.restricted_shell.programs import RULES
from tests.unit.shell_lines import ALLOWED, BLOCKED, LINES, without_help


@pytest.mark.rows("S-39", "S-45", "C54")
@pytest.mark.parametrize("command", ALLOWED)
def test_a_command_that_only_reads_is_allowed(command: str) -> None:
    assert isinstance(check_command(command), Allowed)


@pytest.mark.rows("S-39", "S-45", "C54")
@pytest.mark.parametrize("command", BLOCKED)
def test_a_command_that_could_do_more_is_blocked_with_a_reason(command: str) -> None:
    decision = check_command(command)
    assert isinstance(decision, Blocked)
    assert decision.reason


@pytest.mark.parametrize("command", ALLOWED)
def test_what_was_understood_is_understood_the_same_way_again(command: str) -> None:
    decision = check_command(command)
    assert isinstance(decision, Allowed)
    assert check_command(without_help(decision.command)) == decision


@pytest.mark.parametrize(
    ("command", "understood"),
    [
        ("ls *", "ls ./*"),  # a file may be called -R
        ("cat -- *.py", "cat -- ./*.py"),
        ("uniq *", "uniq '*'"),  # a second file would be written
        ("git config a.*", "git config 'a.*'"),
        ("find . -name *.py", "find . -name '*.py'"),
        ("grep fo* *.c", "grep 'fo*' ./*.c"),
        ("echo \"a $HOME\"'b'", "echo 'a '\"$HOME\"b"),
        ('echo "$\\\n(id)"', "echo '$(id)'"),
        ("uniq in -c", "uniq -c in"),  # not every uniq takes -c for an option there
        ("sed 'w out' -e p x", "sed -e p 'w out' x"),
        ("git log a --not b", "git log --no-ext-diff --no-textconv a --not b"),
        ("git show x", "git show --no-ext-diff --no-textconv x"),
        ("git stash list -n 1", "git stash list --no-ext-diff --no-textconv -n 1"),
        ("git reflog show -n 1", "git reflog show -n 1"),
        ("sort ''*", "sort ./*"),
        ('rg hi ""*', "rg hi ./*"),
        ("sort \\\n''*", "sort ./*"),
        ("ls ''\"\"[-]x", "ls ./['-]x'"),
        ("ls $HOME/*.py", 'ls "${HOME##-*}"/*.py'),
        ("ls ~", 'ls "${HOME##-*}"'),
        ("echo a$USER $?-x", 'echo a"$USER" "$?"-x'),
        ("[ -d . ]", "'[' -d . ']'"),
        ("ls;pwd\n\nls", "ls ; pwd ; ls"),
        ("cat<a 2> /dev/null", "cat <a 2>/dev/null"),
        ("ls ''", "ls ''"),
    ],
)
def test_the_shell_gets_to_see_only_what_was_understood(command: str, understood: str) -> None:
    decision = check_command(command)
    assert isinstance(decision, Allowed)
    assert decision.command == understood


@given(st.one_of(LINES, st.text(max_size=60)))
@settings(max_examples=1500)
def test_an_allowed_command_has_no_unquoted_construct_that_runs_or_writes(line: str) -> None:
    decision = check_command(line)
    if isinstance(decision, Blocked):
        return
    bare = _without_quotes(without_help(decision.command))
    assert not set(bare) & set("`(){}\n\\")
    assert "$" not in bare
    for target in bare.split(">")[1:]:
        assert target.startswith(("/dev/null", "&1", "&2"))
    for name in bare.replace("&&", ";").replace("||", ";").replace("|", ";").split(";"):
        assert name.split()[:1] == [] or name.split()[0] in {*RULES, "Q"}


def _without_quotes(command: str) -> str:
    """`command` with every quoted piece as a Q, and known variables too."""
    bare, at = "", 0
    while at < len(command):
        if command[at] in "'\"":
            end = command.index(command[at], at + 1)
            bare, at = bare + "Q", end + 1
        else:
            bare, at = bare + command[at], at + 1
    return bare
