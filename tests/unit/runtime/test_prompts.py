"""System prompts: where they come from, and what a prompt file may do and may not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from paddock.backends.daytona import DaytonaBackend
from paddock.backends.docker import DockerBackend
from paddock.backends.local import LocalBackend
from paddock.errors import ConfigError
from paddock.runtime import rendering
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.agents.prompts import read_prompt
from paddock.runtime.rendering import render
from paddock.runtime.yamltext import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Resolve = Callable[..., str]

PATIENCE = 60.0
"""Seconds within which a template that never ends has been ended: 3 of computing, which take
longer where others compute."""


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PADDOCK_PROFILE", "PADDOCK_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def resolve(tmp_path: Path) -> Resolve:
    """``resolve(text, **vars)`` is what becomes of a prompt file with this text."""

    def resolved(text: str, **values: str) -> str:
        path = tmp_path / "prompt.md"
        path.write_text(text)
        return AgentConfig(system_prompt=str(path), vars=values).resolve_system_prompt()

    return resolved


# -------------------------------------------------------- where a prompt comes from


@pytest.mark.rows("S-6")
@pytest.mark.parametrize("prompt", ["Literal.", "{{ not.rendered }}", "Two lines,\nsee a.md"])
def test_a_prompt_that_is_no_file_is_taken_literally(prompt: str) -> None:
    assert AgentConfig(system_prompt=prompt).resolve_system_prompt() == prompt


@pytest.mark.rows("S-6")
def test_without_a_prompt_there_is_a_built_in_one_and_the_users_own_goes_before(
    tmp_path: Path,
) -> None:
    config = AgentConfig(profile="developer", working_dir="/w")
    for told in ("developer", "/w", "unrestricted", "full", "a local sandbox"):
        assert told in config.resolve_system_prompt()
    own = tmp_path / "config" / "paddock" / "default.md"
    own.parent.mkdir(parents=True)
    own.write_text("Mine, under {{ profile_name }}, for {{ whom }}.")
    config = AgentConfig(vars={"whom": "us"})
    assert config.resolve_system_prompt() == "Mine, under readonly, for us."
    assert AgentConfig(system_prompt="Literal.").resolve_system_prompt() == "Literal."


@pytest.mark.rows("S-6")
def test_every_prompt_file_is_given_what_paddock_knows(resolve: Resolve) -> None:
    names = (
        "home_dir", "working_dir", "profile_name", "shell_mode", "file_write_mode",
        "database_mode", "sandbox_info",
    )  # fmt: skip
    text = "; ".join(f"{{{{ {name} }}}}" for name in names)
    assert resolve(text) == "~; .; readonly; restricted; off; readonly; a local sandbox"
    assert resolve("{{ working_dir }}", working_dir="/mine") == "/mine"
    assert resolve("{{ platform }}")


@pytest.mark.rows("S-6")
def test_the_working_directory_of_a_prompt_is_the_sandboxs(tmp_path: Path) -> None:
    path = tmp_path / "p.md"
    path.write_text("{{ working_dir }} {{ platform }}")

    def told(**settings: object) -> str:
        config = AgentConfig(system_prompt=str(path), profile="eval", **settings)  # type: ignore[arg-type]
        return config.resolve_system_prompt()

    assert told(backend="docker") == "/workspace Linux"
    assert told(backend="daytona") == "/home/daytona Linux"
    assert told(backend=DockerBackend()) == "/workspace Linux"
    assert told(backend=DockerBackend(working_dir="/w")) == "/w Linux"
    assert told(backend=DockerBackend(image="node:22")) == ". Linux"  # it may have its own
    assert told(backend=DaytonaBackend(), working_dir="/v") == "/v Linux"
    assert told(backend=LocalBackend()).startswith(". ")
    with pytest.raises(ConfigError, match="no backend is called 'nowhere'"):
        told(backend="nowhere")


@pytest.mark.rows("S-6", "S-39")
def test_the_built_in_prompt_does_not_promise_a_directory_that_may_not_be_there() -> None:
    lines = AgentConfig(profile="eval").resolve_system_prompt().splitlines()
    assert "Working directory: .; commands start in /app if the sandbox has it" in lines
    lines = AgentConfig(profile="eval", working_dir="/w").resolve_system_prompt().splitlines()
    assert "Working directory: /w" in lines
    assert "/app" not in AgentConfig(profile="developer").resolve_system_prompt()


# ------------------------------------------------------------------ prompt files


@pytest.mark.rows("S-7")
def test_a_prompt_file_is_rendered_with_its_variables(tmp_path: Path) -> None:
    path = tmp_path / "prompt.md"
    path.write_text(
        "---\ndescription: A test\nvariables:\n  team: {required: true}\n  tone: calm\n"
        "  version: 1.10\n  note: {required: false}\n  size: {default: 3}\n"
        "initial_prompt: Begin.\n---\n"
        "{% if team %}\nTeam {{ team }}, {{ tone }}, {{ version }}{{ note }}{{ size }}.\n"
        "{% endif %}\n"
    )
    config = AgentConfig(system_prompt=str(path), vars={"team": "{{ 7*7 }}", "unused": "x"})
    assert config.resolve_system_prompt() == "Team {{ 7*7 }}, calm, 1.103.\n"
    prompt = read_prompt(path)
    assert (prompt.description, prompt.initial_prompt) == ("A test", "Begin.")
    assert prompt.defaults == {
        "team": None, "tone": "calm", "version": "1.10", "note": "", "size": "3",
    }  # fmt: skip
    with pytest.raises(ValueError, match="Missing required variable: team"):
        AgentConfig(system_prompt=str(path)).resolve_system_prompt()


@pytest.mark.rows("S-7")
@pytest.mark.parametrize("head", ["variables: {team: }", "variables: {team: {}}"])
def test_a_variable_without_a_default_has_to_be_given(resolve: Resolve, head: str) -> None:
    text = f"---\n{head}\n---\nTeam {{{{ team }}}}"
    assert resolve(text, team="blue") == "Team blue"
    with pytest.raises(ConfigError, match="Missing required variable: team"):
        resolve(text)


@pytest.mark.rows("S-7")
@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("Plain.\n\n", "Plain.\n"),
        ("Plain,\r\ntoo.", "Plain,\ntoo."),
        ("---\ndescription: x\n---\nPlain.", "Plain."),
        ("--- is a rule\n", "--- is a rule"),
        ("---\nnever closed", "---\nnever closed"),
        ("\nA\n  {% if true %}\nB\n  {% endif %}\nC\n", "\nA\nB\nC"),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("{% for n in range(3) %}{{ n }}{% endfor %}", "012"),
        ("{% set s = namespace(n=1) %}{% set s.n = 2 %}{{ s.n }}", "2"),
        ("__init__ is text; so is {{ 'a' }}", "__init__ is text; so is a"),
    ],
)
def test_a_template_is_rendered_as_jinja_does(resolve: Resolve, text: str, prompt: str) -> None:
    assert resolve(text) == prompt


@pytest.mark.rows("S-7", "C51", "C52")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("---\ndescription: x\n---\n \n", "empty"),
        ("---\na: [\n---\nx", r"prompt\.md, line \d: not valid YAML"),
        ("---\na: 1\na: 2\n---\nx", r"prompt\.md, line 3: 'a' is given twice"),
        ("---\nx: !!python/name:os.system\n---\nx", "line 2: a tag"),
        ("---\n- a\n---\nx", "mapping"),
        ("---\nvariables: [a]\n---\nx", "line 2: variables has to be a mapping"),
        ("---\na: 1\ndescription: [a]\n---\nx", "line 3: description has to be text"),
        ("---\ninitial_prompt: {a: 1}\n---\nx", "line 2: initial_prompt has to be text"),
        ("---\nvariables: {a: [b]}\n---\nx", r"variables\.a: give a text"),
        ("---\nvariables: {a: {required: perhaps}}\n---\nx", r"variables\.a\.required"),
        ("---\nvariables: {a: {default: [b]}}\n---\nx", r"variables\.a\.default"),
        ("a\n{% if %}", r"prompt\.md, line 2: "),
        ("---\na: 1\n---\na\n{% if %}", r"prompt\.md, line 5: "),
        ("a\n\n{{ unknown }}", "line 3: 'unknown' is undefined"),
        ("---\na: 1\n---\na\n{{ unknown }}", "line 5: 'unknown' is undefined"),
        ("{{ 1 / 0 }}", "line 1: division by zero"),
        ("\ufeffx", "byte order mark"),
        ("x" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_a_prompt_file_that_is_none_is_told(resolve: Resolve, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        resolve(text)


@pytest.mark.rows("S-7")
def test_a_prompt_file_that_is_not_there_is_told() -> None:
    with pytest.raises(FileNotFoundError, match="Prompt file not found"):
        AgentConfig(system_prompt="none.md").resolve_system_prompt()


# ------------------------------------------------------------------ hostile ones

PAYLOADS = [
    "{{ 7*7 }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ config.__class__.__init__.__globals__ }}",
    "{% for c in [].__class__.__base__.__subclasses__() %}{{ c }}{% endfor %}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{% include '/etc/passwd' %}",
    "${7*7} #{7*7} <%= 7*7 %> {{{{7*7}}}}",
]


@pytest.mark.rows("C51")
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_value_is_never_itself_a_template(resolve: Resolve, payload: str) -> None:
    assert resolve("<{{ value }}|{{ value | trim }}>", value=payload) == f"<{payload}|{payload}>"
    assert resolve("---\nvariables: {a: {default: b}}\n---\n{{ a }}", a=payload) == payload


@pytest.mark.rows("C51")
@pytest.mark.parametrize(
    "template",
    [
        *PAYLOADS[1:6],
        "{{ ''['__class__'] }}",
        "{{ ''|attr('__class__') }}",
        "{{ ''|attr('_' ~ '_class_' ~ '_') }}",
        "{{ ''['_' ~ '_class_' ~ '_'] }}",
        "{{ ''|attr(value) }}",
        "{{ ''[value].mro() }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ ('{0._' ~ '_class_' ~ '_}').format(1) }}",
        "{{ '%s'.format.__self__ }}",
        "{% set x = ''.__class__ %}",
        "{% macro __m() %}{% endmacro %}",
        "{{ dict.mro() }}",
        "{{ lipsum }}",
        "{{ cycler }}",
        "{{ joiner }}",
        "{% import 'os' as os %}",
        "{% extends 'base' %}",
        "{{ [].append(1) }}",
        "{{ {}.update({1: 2}) }}",
        "{{ (1).real.conjugate.im_func }}",
    ],
)
def test_a_template_does_not_get_out_of_its_sandbox(resolve: Resolve, template: str) -> None:
    with pytest.raises(ConfigError, match="line 1: "):
        resolve(template, value="__class__")


@pytest.mark.rows("C51")
@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{% for i in range(10**9) %}{% endfor %}", "line 1: Range too big"),
        ("{{ 'x' * 10**10 }}", "too much memory"),
        ("{{ 'a'.ljust(10**10) }}", "too much memory"),
        ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "longer than"),
        ("{{" + "(" * 10000 + "1" + ")" * 10000 + "}}", "nested too deeply|too much"),
        ("{% if a %}" * 2000 + "{% endif %}" * 2000, "nested too deeply|too much|nested blocks"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested too deeply"),
    ],
)
def test_what_a_template_takes_is_bounded(resolve: Resolve, template: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        resolve(template)


@pytest.mark.rows("C51")
@pytest.mark.parametrize(
    "template",
    [
        "{{ 10 ** (10 ** 9) }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    ],
)
def test_a_template_that_does_not_end_is_ended(
    resolve: Resolve, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rendering.BOUNDS, "RLIMIT_CPU", 1)
    begun = time.monotonic()
    with pytest.raises(ConfigError, match="too much time or memory, and was stopped"):
        resolve(template)
    assert time.monotonic() - begun < PATIENCE


@pytest.mark.rows("C51")
def test_where_the_kernel_bounds_nothing_the_deadline_ends_it(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "BOUNDS", {})
    monkeypatch.setattr(rendering, "DEADLINE", 1.0)
    with pytest.raises(ConfigError, match="not rendered within 1 s"):
        resolve("{% for i in range(9999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")


@pytest.mark.rows("C53")
def test_a_template_sees_no_environment_and_no_file(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORD", "secret")
    assert resolve("${env:WORD} {{ 1 }}") == "${env:WORD} 1"
    with pytest.raises(ConfigError, match="'env' is undefined"):
        resolve("{{ env.WORD }}")


def test_the_same_prompt_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = render("{{ a }}, once", {"a": "b"}, source="p.md")
    monkeypatch.setattr(rendering, "CHILD", "/nowhere")
    assert render("{{ a }}, once", {"a": "b"}, source="q.md") == text
    with pytest.raises(ConfigError, match=r"q\.md: rendering"):
        render("{{ a }}, once", {"a": "c"}, source="q.md")
