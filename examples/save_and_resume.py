"""A session that is kept on disk, and gone on with later."""

import asyncio
import tempfile
from pathlib import Path

from paddock import Agent, AgentConfig, SessionStore

SCRIPT = """
- text: "Noted: the blue one."
- expect: Which
  text: You like the blue one.
"""


async def main(directory: Path) -> None:
    (directory / "script.yaml").write_text(SCRIPT)
    agent = Agent(AgentConfig(model=f"scripted:{directory / 'script.yaml'}"))
    store = SessionStore(directory / "sessions")

    async with store.create_session(agent) as session:
        await session.run(prompt="I like the blue one.")
        session_id = session.id

    async with store.resume(session_id, agent) as session:
        result = await session.run(prompt="Which one do I like?")
        print(result.text)

    for info in store.list():
        print(f"{info.id}: {info.status}, began with {info.first_prompt!r}")


with tempfile.TemporaryDirectory() as name:
    asyncio.run(main(Path(name)))
