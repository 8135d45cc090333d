"""What README and docs show is true: their files are read, their links lead somewhere.

``tests/e2e/test_docs_programs.py`` and ``test_docs_commands.py`` run their programs and commands.
"""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, get_args

import pytest
import sqlglot
import yaml

from paddock import Agent, AgentConfig, Event, ObservabilityConfig, ScriptedModel, load_profile
from paddock.cli.databases import FILE_VARIABLE, with_databases
from paddock.project import find_project
from tests.pages import FENCE, PAGES, ROOT, Block, as_parameters, blocks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)[^)]*\)")

OTHER_BLOCK = re.compile(r"^(?:\s*(?:```|~~~)|    |\t).*", re.MULTILINE)
"""A line of a fence, or of a block that is told by its indentation."""

VALUES = {"DEPLOY_KEY": "deploy-key-1", "NPM_TOKEN": "npm-token-1", "SALES_PASSWORD": "s3cret-word"}
"""What the files that are shown take from the environment."""


def load_agent(path: Path) -> None:
    """No key may be one that nobody knows, but for the one that stands for them."""
    agent = Agent(AgentConfig.from_file(path))
    assert agent.config.extras.keys() <= {"ticket"}


def load_databases(path: Path) -> None:
    """The page says that databases.yaml may hold the same."""
    load_agent(path)
    assert with_databases(AgentConfig(), file=None, saved=False).databases


def load_workflow(path: Path) -> None:
    """It runs pytest, by the variable that the plugin reads."""
    jobs = yaml.safe_load(path.read_text())["jobs"]
    runs = [
        step for job in jobs.values() for step in job["steps"] if "pytest " in step.get("run", "")
    ]
    assert runs[-1]["env"].keys() == {"PADDOCK_SANDBOX_BACKEND"}


LOADERS: dict[str, Callable[[Path], object]] = {
    "ci.md": load_workflow,
    "data-tools.md": load_databases,
    "mcp.md": load_agent,
    "models.md": ScriptedModel.from_file,
    "observability.md": ObservabilityConfig.from_file,
    "profiles.md": load_profile,
    "prompts.md": load_agent,
    "secrets.md": load_agent,
}
"""What reads the YAML of each page."""


@pytest.mark.parametrize("block", as_parameters(blocks("yaml")))
def test_a_yaml_file_in_the_docs_is_read_by_what_it_is_for(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(block.text)
    (tmp_path / "shop.db").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)
    LOADERS[block.page.name](path)


@pytest.mark.parametrize("block", as_parameters(blocks("toml")))
def test_a_toml_file_in_the_docs_is_a_project_file(block: Block, tmp_path: Path) -> None:
    name = "pyproject.toml" if "[tool." in block.text else "paddock.toml"
    (tmp_path / name).write_text(block.text)
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    project = find_project(tmp_path)
    assert project is not None
    assert project.path == tmp_path / name
    assert project.setup


@pytest.mark.parametrize("block", as_parameters(blocks("sql")))
def test_statements_in_the_docs_are_postgresqls(block: Block) -> None:
    assert all(sqlglot.parse(block.text, dialect="postgres"))


def test_what_a_tree_shows_is_there() -> None:
    """A name is told apart from what is said of it by two blanks, and from the next by one."""
    (tree,) = blocks("text")
    folder = ROOT
    for line in tree.text.splitlines():
        place = folder if line.startswith(" ") else ROOT
        names, *_ = re.split(r"\s{2,}", line.strip())
        for name in re.split(r",? ", names):
            assert (place / name).exists(), line
        folder = folder if line.startswith(" ") else ROOT / names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_run_or_read_by_a_test(page: Path) -> None:
    """A language that is added here has a test that takes all blocks of it."""
    for block in blocks():
        if block.page == page:
            assert block.language in {"python", "sh", "sql", "yaml", "toml", "text"}, block.place
    assert not OTHER_BLOCK.search(FENCE.sub("", page.read_text())), "fence it, with its language"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_make_target_that_the_docs_name_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:^|`)\s*make ([a-z]+)", page.read_text(), re.MULTILINE))
        assert named <= targets, page


def test_every_test_that_a_promise_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 20
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_the_page_on_events_has_each_type_with_its_fields() -> None:
    rows = (ROOT / "docs" / "events.md").read_text().splitlines()
    for kind in get_args(Event):
        (row,) = [row for row in rows if row.startswith(f"| `{kind.__name__}` |")]
        names = ", ".join(f"`{field.name}`" for field in fields(kind))
        assert row.split(" | ")[1] == names, kind
