"""The restricted shell of read-only agents: an allow-list over a parsed command line.

A convenience, not a boundary: it keeps an honest model from changing things by
mistake and saves a person's approvals. What keeps a hostile one from changing things is
the fence (`paddock.sandbox.Fence`) that such commands run in. Programs are known by name
alone, so a sandbox whose PATH finds something else under ``ls`` runs something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from paddock.runtime.permissions.restricted_shell.git import GitRule
from paddock.runtime.permissions.restricted_shell.programs import RULES
from paddock.runtime.permissions.restricted_shell.syntax import (
    CommandLine,
    Refused,
    SimpleCommand,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RESTRICTED_ENV", "Allowed", "Blocked", "check_command"]

_GIT_CONFIG: Final = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.pager": "cat",
    "core.sshCommand": "false",
    "diff.autoRefreshIndex": "false",
    "diff.submodule": "short",
    "gpg.openpgp.program": "false",
    "gpg.program": "false",
    "gpg.ssh.program": "false",
    "gpg.x509.program": "false",
    "log.diffMerges": "separate",
    "log.showSignature": "false",
    "safe.bareRepository": "explicit",  # else a folder of a clone can be one, with settings
    "stash.showPatch": "false",
    "status.submoduleSummary": "false",
    "submodule.recurse": "false",
}

RESTRICTED_ENV: Final[Mapping[str, str]] = MappingProxyType({
    "GIT_OPTIONAL_LOCKS": "0",  # else `git status` rewrites the index
    "GIT_PAGER": "cat",
    "GIT_EXTERNAL_DIFF": "",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",  # the same for git before 2.44
    "GIT_SSH_COMMAND": "false",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_COUNT": str(len(_GIT_CONFIG)),
    **{f"GIT_CONFIG_KEY_{index}": key for index, key in enumerate(_GIT_CONFIG)},
    **{f"GIT_CONFIG_VALUE_{index}": value for index, value in enumerate(_GIT_CONFIG.values())},
    "RIPGREP_CONFIG_PATH": "",
})  # fmt: skip
"""What an allowed command has to run with: programs that settings could make start others."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """`command` is the command line as it was understood; run this, under ``sh -c``."""

    command: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """The command may not run; `reason` is for the model."""

    reason: str


def check_command(command: str) -> Allowed | Blocked:
    """Whether `command` only reads, as far as its text can tell.

    Every program has to be on the list, with options and operands that its rule
    knows. An option's value is passed as it is, never as a glob.
    """
    try:
        line = parse(command)
        checked = tuple(_check(simple) for simple in line.commands)
    except Refused as refused:
        return Blocked(str(refused))
    return Allowed(CommandLine(checked, line.operators).render())


def _check(command: SimpleCommand) -> SimpleCommand:
    name, *arguments = command.words
    if not name.plain:
        raise Refused("the name of a program must be written plainly")
    rule = RULES.get(name.text)
    if rule is None:
        raise Refused(f"'{name.text}' is not among the commands that only read")
    try:
        for word in arguments:
            if word.may_become_option:
                raise Refused(f"'{word.text}' could become an option; put ./ or text before it")
        words = rule.check(tuple(arguments))
    except Refused as refused:
        raise Refused(f"{name.text}: {refused}") from None
    guard = rule.guard(words) if isinstance(rule, GitRule) else ("", "")
    return SimpleCommand(words=(name, *words), redirections=command.redirections, guard=guard)
