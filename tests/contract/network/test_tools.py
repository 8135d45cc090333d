"""The tools that developers use find the proxy of an allow list by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.network.sites import DEADLINE

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox
    from tests.conftest import Require

pytestmark = pytest.mark.parametrize("backend", ["local-bubblewrap"], indirect=True)

URL = "http://tool.test"
FETCH_IN_JAVA = f"""\
class A {{
    public static void main(String[] words) throws Exception {{
        new java.net.URL("{URL}/").openStream();
    }}
}}
"""
TRUST = ["--trusted-host", "tool.test"]
TOOLS = {
    "git": ["git", "ls-remote", f"{URL}/x.git"],
    "pip": ["python3", "-m", "pip", "download", "--retries=0", f"--index-url={URL}", *TRUST, "x"],
    "npm": ["npm", "view", "x", f"--registry={URL}", "--fetch-retries=0"],
    "cargo": ["cargo", "install", "--index", f"sparse+{URL}/", "x"],
    "apt-get": [
        "sh", "-c",
        f"echo 'deb [trusted=yes] {URL}/ x main' > list && mkdir -p lists/partial && "
        "apt-get update -o Dir::Etc::sourcelist=$PWD/list -o Dir::Etc::sourceparts=- "
        "-o Dir::State::lists=$PWD/lists -o Acquire::Retries=0 -o APT::Sandbox::User=root",
    ],
    "javac": ["sh", "-c", f"echo '{FETCH_IN_JAVA}' > A.java && java A.java"],
    "node": ["node", "-e", f"fetch('{URL}/').catch(() => process.exit(1))"],
}  # fmt: skip

WORKS = {
    "pip": "python3 -m pip --version",
    "node": "node -e 'v = process.versions.node.split(`.`); "
    "process.exit(v[0] >= 24 || (v[0] == 22 && v[1] >= 21) ? 0 : 1)'",
}
"""How it is known that a tool is there, and new enough."""


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_tool_asks_the_proxy(sandbox: Sandbox, tool: str, require: Require) -> None:
    """It is refused there, and that is how it is known to have asked."""
    works = await sandbox.exec(WORKS.get(tool, f"command -v {tool}"))
    require(tool, works.ok, "it is not in the sandbox, or too old to know proxies")
    result = await sandbox.exec(TOOLS[tool], timeout=DEADLINE)
    assert not result.ok
    seen = {(each.host, each.port, each.allowed) for each in sandbox.network_log}
    assert seen == {("tool.test", 80, False)}, result.stderr
