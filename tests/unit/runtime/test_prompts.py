"""System prompts: where they come from, and what a prompt file may do and may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from paddock.backends.daytona import DaytonaBackend
from paddock.backends.docker import DockerBackend
from paddock.backends.local import LocalBackend
from paddock.errors import ConfigError
from paddock.runtime.agents.config import AgentConfig
from paddock.runtime.agents.prompts import read_prompt
from paddock.runtime.core.yamltext import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Resolve = Callable[..., str]


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
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", "longer than"),
        ("{{" + "(" * 9000 + "1" + ")" * 9000 + "}}", "nested too deeply"),
        ("{% if a %}" * 1000 + "{% endif %}" * 1000, "nested too deeply|nested blocks"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested too deeply"),
        ("{{ a }}" * 20_000, "more than 20000 words and signs"),
        ("{{ a }}{{ " + "1+" * 9000 + "1 }}", "nested too deeply"),
    ],
)
def test_the_size_of_a_template_and_of_its_text_is_bounded(
    resolve: Resolve, template: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        resolve(template, a="b")


NESTED = "{% for i in range(99999) %}{% for j in range(99999) %}BODY{% endfor %}{% endfor %}"


def steps(start: str, step: str, use: str = "") -> str:
    """A template that makes `step` of what it made before, 60 times."""
    made = (f"{{% set a{n} = {step.replace('X', f'a{n - 1}')} %}}" for n in range(1, 61))
    return f"{{% set a0 = {start} %}}{''.join(made)}{use}"


@pytest.mark.rows("C51")
@pytest.mark.parametrize(
    "template",
    [
        NESTED.replace("BODY", ""),
        NESTED.replace("BODY", "{% if i == j %}{% endif %}"),
        "{% macro m() %}" + NESTED.replace("BODY", "text") + "{% endmacro %}{{ m() }}",
        "{% set x %}" + NESTED.replace("BODY", "{{ 'text' }}") + "{% endset %}",
        "{% filter upper %}" + NESTED.replace("BODY", "text") + "{% endfilter %}",
        "{% for i in range(99999) if (range(9999)|list|length) == 1 %}{% endfor %}",
        "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) ~ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{% for i in range(99999) %}{% if value == value ~ i %}{% endif %}{% endfor %}",
        "{% for i in range(99999) %}{% if value is eq value ~ i %}{% endif %}{% endfor %}",
        "{% for i in range(99999) %}{% if value in [value ~ i] %}{% endif %}{% endfor %}",
        "{% for i in range(99999) %}{% set x = value[1:] %}{% endfor %}",
        "{% for i in range(99999) %}{% set x = value.upper() %}{% endfor %}",
        "{% for i in range(99999) %}{% set x = value|upper %}{% endfor %}",
        "{% for i in range(99999) %}{% set x = {(value ~ i): 1} %}{% endfor %}",
        "{{ range(99999)|map('center', 9999)|list }}",
        steps("'ab'", "X ~ X"),
        steps("'ab'", "X + X"),
        steps("[1]", "X + X"),
        steps("[1]", "[X, X]"),
        steps("(1,)", "(X, X)", "{% if {a60: 1} %}{% endif %}"),
        steps("{}", "{1: X, 2: X}", "{{ a60 }}"),
        steps("'ab'", "X|replace('', X)"),
        steps("'ab'", "[X, X]|join"),
        steps("'ab'", "X.join([X, X])"),
        steps("'\"'", "X|tojson"),
        steps("'ab'", "X|urlencode ~ X"),
        "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x * 2 %}{% endfor %}",
        "{% set n = namespace(x=()) %}{% for i in range(9999) %}{% set n.x = (n.x,) %}{% endfor %}",
        "{{ 10 ** (10 ** 9) }}",
        "{{ (10 ** 500) ** 500 }}",
        steps("10 ** 9", "X * X"),
        "{{ 1|round(10 ** 9, 'ceil') }}",
        "{{ 'x' * 10 ** 10 }}",
        "{{ 10 ** 10 * 'x' }}",
        "{{ [1] * 10 ** 10 }}",
        "{{ 'a'|center(10 ** 10) }}",
        "{{ 'a'|indent(10 ** 10, true) }}",
        "{{ ('a\n' * 1000)|indent(90000) }}",
        "{{ [1]|batch(10 ** 9, 'x')|list }}",
        "{{ [1]|slice(10 ** 9)|list }}",
        "{{ [1]|tojson(10 ** 9) }}",
        "{{ (value * 100)|replace('x', value) }}",
        "{{ ([value] * 100000)|join }}",
        "{{ range(99999)|join(value) }}",
        "{{ (value * 100).strip('y' * 1000000) }}",
    ],
)
def test_what_a_template_takes_is_bounded(resolve: Resolve, template: str) -> None:
    with pytest.raises(ConfigError, match=r"too much|too large|too deep|larger than|longer than"):
        resolve(template, value="x" * 10_000)


@pytest.mark.rows("C51")
@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a'.ljust(10**10) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'a'.zfill(10**10) }}",
        "{{ 'a'.expandtabs(10**10) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
        "{{ 'a'.translate({97: 'b' * 1000000}) }}",
        "{{ (1).to_bytes(10**10) }}",
        "{{ ('<' * 1000000)|striptags }}",
        "{{ (('<' * 1000000)|safe).striptags() }}",
        "{{ '%s'|format(1) }}",
        "{{ lipsum(10**9) }}",
        "{{ 'a'['ljust'](10**9) }}",
        "{{ ('a'|attr('ljust'))(10**9) }}",
        "{{ (['a']|map(attribute='ljust')|first)(10**9) }}",
    ],
)
def test_what_cannot_be_bounded_is_not_offered(resolve: Resolve, template: str) -> None:
    with pytest.raises(ConfigError, match=r"line 1: |too large"):
        resolve(template)


@pytest.mark.rows("C51")
def test_an_error_quotes_no_more_of_a_value_than_one_reads(resolve: Resolve) -> None:
    with pytest.raises(ConfigError, match="has no attribute 'xxx") as caught:
        resolve("{{ {}[value] }}", value="x" * 100_000)
    assert len(str(caught.value)) < 2_000


@pytest.mark.rows("S-7")
@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("{{ '-' * 20 }}", "-" * 20),
        ("{% for l in value.split(',') %}{{ loop.index }}{{ l|trim }} {% endfor %}", "1x 2y "),
        ("{{ value.split(', ')|join(' and ') }}", "x and y"),
        ("{{ value|indent(4, true) }}", "    x, y"),
        ("{{ none_such|default('z') }}{{ none_such is defined }}", "zFalse"),
        ("{{ long|truncate(2000)|length }}", "2000"),
        ("{{ long|replace('x', 'yy')|length }}", "200000"),
        ("{{ value|tojson }} {{ {'a': [1]}|tojson }}", '"x, y" {"a": [1]}'),
        ("{{ [3, 1]|sort|first }} {{ [3, 1]|sum }} {{ 7 % 4 }} {{ 2 ** 10 }}", "1 4 3 1024"),
        ("{% macro m(a, b='c') %}{{ a }}{{ b }}{{ caller() }}{% endmacro %}"
         "{% call m(1) %}d{% endcall %}", "1cd"),
        ("{{ value[:1] ~ value[-1] }} {{ {'a': {'b': 2}}.a['b'] }}", "xy 2"),
        ("{% for k, v in {'a': 1}.items() if v > 0 %}{{ k }}{{ v }}{% else %}-{% endfor %}", "a1"),
        ("{% for i in range(20000) %}{% if i == 19999 %}{{ i }}{% endif %}{% endfor %}", "19999"),
    ],
)  # fmt: skip
def test_what_prompts_do_is_within_the_bounds(resolve: Resolve, template: str, prompt: str) -> None:
    assert resolve(template, value="x, y", long="x" * 100_000) == prompt


@pytest.mark.rows("C53")
def test_a_template_sees_no_environment_and_no_file(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORD", "secret")
    assert resolve("${env:WORD} {{ 1 }}") == "${env:WORD} 1"
    with pytest.raises(ConfigError, match="'env' is undefined"):
        resolve("{{ env.WORD }}")
