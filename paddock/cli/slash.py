"""What the commands of a conversation do, as far as no screen is needed."""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from paddock.errors import ConfigError
from paddock.runtime.permissions import FileWriteMode, ShellMode, load_profile

if TYPE_CHECKING:
    from paddock.runtime.agent import Agent

__all__ = ["HELP", "describe_writing", "parse_download", "set_writing"]

HELP = """\
What begins with none of these goes to the agent.

  /help                     this
  /approve                  run dangerous calls without a question, or ask again
  /compact [INSTRUCTIONS]   replace the conversation by a summary of it
  /write [on|off|status]    let the agent write files and run any command, or only look
  /resume [ID]              list sessions, or go on with one
  /download REMOTE LOCAL    copy a file or a tree out of the sandbox
  /cost                     what the conversation has cost
  exit                      leave, and take the sandbox down

Enter sends; Esc and then Enter begins a new line. Ctrl-C cancels what goes on; once
more leaves."""


def describe_writing(agent: Agent) -> str:
    """What the agent may change."""
    profile = load_profile(agent.config.profile)
    shell = profile.shell.value
    if profile.shell is ShellMode.RESTRICTED:
        shell += f", fence: {profile.shell_fence.value}"
    return f"writing files: {profile.file_write.value}; shell: {shell}"


async def set_writing(agent: Agent, allowed: bool) -> str:
    """Let `agent` write files and run any command from its next turn on, or only look.

    Returns its system prompt, made anew, since it may say what is allowed.
    """
    profile = dataclasses.replace(
        load_profile(agent.config.profile),
        file_write=FileWriteMode.FULL if allowed else FileWriteMode.OFF,
        shell=ShellMode.UNRESTRICTED if allowed else ShellMode.RESTRICTED,
    )
    config = dataclasses.replace(agent.config, profile=profile)
    prompt = await asyncio.to_thread(config.resolve_system_prompt)
    agent.reconfigure(config)
    return prompt


def parse_download(text: str) -> tuple[str, Path]:
    """The path in the sandbox, and the one here, where nothing may be yet."""
    try:
        remote, local = shlex.split(text)
    except ValueError:
        raise ConfigError("say /download REMOTE LOCAL; quote what has spaces") from None
    path = Path(local).expanduser()
    if path.exists() or path.is_symlink():
        raise FileExistsError(17, "it exists, and is not written over", local)
    return remote, path
