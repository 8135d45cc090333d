"""A session that is kept on disk, and gone on with later."""

import asyncio
import tempfile

from paddock import Agent, AgentConfig, ScriptedModel, SessionStore

SCRIPT = [
    {"text": "Noted: the blue one."},
    {"expect": "Which", "text": "You like the blue one."},
]


async def main() -> None:
    agent = Agent(AgentConfig(profile="readonly"))
    model = ScriptedModel(SCRIPT)
    with tempfile.TemporaryDirectory() as directory:
        store = SessionStore(directory)

        async with store.create_session(agent, client=model) as session:
            await session.run(prompt="I like the blue one.")
            session_id = session.id

        async with store.resume(session_id, agent, client=model) as session:
            result = await session.run(prompt="Which one do I like?")
            print(result.text)

        for info in store.list():
            print(f"{info.id}: {info.status}, began with {info.first_prompt!r}")


asyncio.run(main())
