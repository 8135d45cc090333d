"""What `import paddock` gives, and what it costs."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import paddock

ROOT = Path(__file__).parents[2]
HEAVY = {
    "anthropic", "click", "daytona", "docker", "genai_prices", "jinja2", "openai", "pydantic",
    "rich", "tenacity", "typer", "websockets", "yaml",
}  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after `code`."""
    program = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_no_heavy_dependency() -> None:
    assert not loaded_by("import paddock") & HEAVY


def test_importing_the_package_does_not_start_asyncio() -> None:
    assert "asyncio" not in loaded_by("import paddock")


def test_using_the_local_backend_loads_no_model_client() -> None:
    assert not loaded_by("from paddock import LocalBackend") & {"openai", "docker", "rich", "typer"}


@pytest.mark.parametrize("name", dir(paddock))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(paddock, name) is not None


def test_every_name_of_the_agent_sdk_comes_from_the_package_itself() -> None:
    """The documents' names: of sub-packages there is no twin, whatever a guide imports from."""
    service = """
        RuntimeOptions create_runtime start_runtime close_runtime run_prompt dispatch_prompt
        reconfigure_runtime AgentRuntime RunResult CancellationToken AgentHandle CapabilityProfile
        ObservabilityInitializationError RunState ToolApprovalItem ToolDecision run_prompt_stored
        SqliteRunStore session_usage TelemetryStorage"""
    sdk = """
        Agent AgentConfig Session SessionStore SessionInfo State StateObserver AgentEvent
        CompactResult ApprovalInterrupt PermissionProfile ShellMode FileWriteMode DatabaseMode
        ApprovalMode load_profile build_registry ToolHandler ToolInvocation ToolOutput ToolRegistry
        DaytonaBackend trace_to_atif ApprovalCallback EventCallback ModelEvent ProgressCallback"""
    handlers = """
        BashHandler ReadHandler WriteHandler EditHandler GlobHandler GrepHandler ListHandler
        ReadExcelHandler DelegateHandler AgentToolHandler"""
    named = {*service.split(), *sdk.split(), *handlers.split()}
    assert named - set(dir(paddock)) == set()


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        paddock.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_that_of_the_installed_distribution() -> None:
    assert paddock.__version__ == version("paddock")


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(paddock.__file__).parent / "py.typed").exists()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): number for name, number in pinned}


def test_constraints_pin_versions_and_name_no_address() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    for line in lines:
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.]+", line), line


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    pinned = pins()
    wanted = [Requirement(text) for text in requires("paddock") or ()]
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate({"extra": "dev"}):
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])
