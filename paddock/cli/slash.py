"""What the commands of a conversation do, as far as no screen is needed."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddock.errors import ConfigError
from paddock.runtime.permissions.profile import FileWriteMode, ShellMode, load_profile

if TYPE_CHECKING:
    from paddock.runtime.agents.agent import Agent
    from paddock.transfers import Links

__all__ = ["HELP", "Download", "describe_writing", "parse_download", "with_writing"]

HELP = """\
What begins with none of these goes to the agent.

  /help                     this
  /approve                  run dangerous calls without a question, or ask again
  /compact [INSTRUCTIONS]   replace the conversation by a summary of it
  /write [on|off|status]    let the agent write files and run any command, or only look
  /resume [ID]              list sessions, or resume one
  /download REMOTE LOCAL    copy a file or a tree out of the sandbox; before it, --ignore PATTERN,
                            --gitignore, --links keep|skip|refuse
  /cost                     what the conversation has cost
  exit                      leave, and take the sandbox down

Enter sends; Esc and then Enter begins a new line. Ctrl-C cancels the current turn; once
more leaves."""


def describe_writing(agent: Agent) -> str:
    """What the agent may change."""
    profile = load_profile(agent.config.profile)
    shell = profile.shell.value
    if profile.shell is ShellMode.RESTRICTED:
        shell += f", fence: {profile.shell_fence.value}"
    return f"writing files: {profile.file_write.value}; shell: {shell}"


def with_writing(agent: Agent, allowed: bool) -> Agent:
    """Return `agent` with leave to write files and run any command, or only to look."""
    profile = dataclasses.replace(
        load_profile(agent.config.profile),
        file_write=FileWriteMode.FULL if allowed else FileWriteMode.OFF,
        shell=ShellMode.UNRESTRICTED if allowed else ShellMode.RESTRICTED,
    )
    return agent.replace(dataclasses.replace(agent.config, profile=profile))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """`remote` is in the sandbox; `local` is here, and nothing is there yet."""

    remote: str
    local: Path
    ignore: tuple[str, ...] = ()
    gitignore: bool = False
    links: Links = "keep"


def parse_download(text: str) -> Download:
    """Read ``[--ignore PATTERN]... [--gitignore] [--links WORD] REMOTE LOCAL``."""
    try:
        words = shlex.split(text)
        options: dict[str, Any] = {"ignore": ()}
        while words[0].startswith("--"):
            match words.pop(0):
                case "--gitignore":
                    options["gitignore"] = True
                case "--ignore":
                    options["ignore"] += (words.pop(0),)
                case "--links":
                    options["links"] = words.pop(0)
                case other:
                    raise ValueError(other)
        remote, local = words
    except (ValueError, IndexError):
        raise ConfigError(
            "say /download [--ignore PATTERN] [--gitignore] [--links keep|skip|refuse] REMOTE "
            "LOCAL; quote what has spaces"
        ) from None
    path = Path(local).expanduser()
    if path.exists() or path.is_symlink():
        raise FileExistsError(17, "it exists, and is not written over", local)
    return Download(remote=remote, local=path, **options)
