"""Words that are too long for a program's arguments."""

from __future__ import annotations

import subprocess

import pytest

from paddock._arguments import LONGEST_WORD, check_variables
from paddock._long_commands import by_stdin
from paddock.errors import ConfigError


@pytest.mark.parametrize("shell", ["sh", "/bin/bash"])
def test_the_program_of_a_shell_goes_by_stdin_beyond_100_kb(shell: str) -> None:
    assert by_stdin([shell, "-c", "true", "a"]) == ((shell, "-c", "true", "a"), b"")
    argv, first = by_stdin([shell, "-c", "#" * 300_000 + "\nprintf '%s' \"$0 $1\"; cat", "a", "b"])
    assert max(map(len, argv)) < 1000
    ended = subprocess.run(argv, input=first + b" rest", capture_output=True, check=True)
    assert ended.stdout == b"a b rest"


@pytest.mark.parametrize(
    "options",
    ["-lc", "-ec", "-e -c", "-euo pipefail -c", "-o errexit -uc", "--norc --login -c", "+e -ceu"],
)
def test_options_may_come_before_the_program_of_a_shell(options: str) -> None:
    text = "#" * 200_000 + "\nset -o | grep -c . > /dev/null; printf '%s' \"$0 $1\"; cat"
    argv, first = by_stdin(["bash", *options.split(), text, "a", "b"])
    assert max(map(len, argv)) < 1000
    ended = subprocess.run(argv, input=first + b" rest", capture_output=True, check=True)
    assert ended.stdout == b"a b rest"


@pytest.mark.parametrize("argv", [["sh", "-xc"], ["sh", "-s"], ["sh", "--rcfile", "-c"]])
def test_options_that_would_show_what_is_read_leave_the_program_as_it_is(argv: list[str]) -> None:
    with pytest.raises(ConfigError, match="by stdin or in a file"):
        by_stdin([*argv, "x" * 200_000])


@pytest.mark.parametrize("argv", [["cat", "x" * 200_000], ["sh", "-c", "cat", "ü" * 70_000]])
def test_another_long_word_is_a_config_error_that_says_what_to_do(argv: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"command\[\d\] has \d+ bytes.*by stdin or in a file"):
        by_stdin(argv)


def test_a_long_variable_is_a_config_error_without_its_value() -> None:
    fits = {"X": "y" * (LONGEST_WORD - 2)}
    assert check_variables("env", fits) == fits
    with pytest.raises(ConfigError, match=r"^env: 'X' has 131072 bytes with its value") as caught:
        check_variables("env", {"X": "y" * (LONGEST_WORD - 1)})
    assert "yyy" not in str(caught.value)
