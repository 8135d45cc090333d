"""report.html in a browser: what it shows, how it filters, and what hostile tasks cannot do."""

from __future__ import annotations

import asyncio
import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from paddock import Fleet, LocalBackend, Retries
from tests.e2e.browser import CHROMIUM, Browser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Require

EVIL = "</script><script>window.owned = 1</script><img src=x onerror='window.owned = 2'>"
"""Breaks out of a block of data, or of any text that is taken for markup."""

TASKS = [
    *({"id": f"good-{number}", "input": "true"} for number in range(120)),
    {"id": EVIL, "input": f"echo {shlex.quote(EVIL)}; echo {shlex.quote(EVIL)} >&2; exit 3"},
    {"id": "__proto__", "input": "false"},
    {"id": "files", "input": f"mkdir -p o; : > o/{shlex.quote(EVIL.replace('/', ' '))}"},
]


@pytest.fixture(scope="module")
def browser(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    require("chromium", CHROMIUM is not None, "there is no chromium")
    with Browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a batch some of whose tasks are hostile."""
    out = tmp_path_factory.mktemp("report") / "run"
    asyncio.run(_run(out))
    return out / "report.html"


async def _run(out: Path) -> None:
    backend = LocalBackend(isolation="none")
    async with Fleet(backend, out=out, limit=8, retries=Retries(own=1)) as fleet:
        work = ["sh", "-c", 'mkdir o; eval "$1"', "sh", "{input}"]
        async for _ in fleet.map(work, TASKS):
            pass
        await fleet.report()


def rows(browser: Browser) -> list[str]:
    script = "[...document.querySelectorAll('.key')].map(each => each.textContent)"
    found: list[str] = browser.evaluate(script)
    return found


def choose(browser: Browser, control: str, value: str) -> None:
    browser.evaluate(
        f"{{const e = document.getElementById({json.dumps(control)}); e.value = "
        f"{json.dumps(value)}; e.dispatchEvent(new Event('input'))}}"
    )


def text(browser: Browser, selector: str) -> Any:
    return browser.evaluate(f"document.querySelector({json.dumps(selector)})?.textContent")


def test_it_shows_what_ended_how_and_filters(browser: Browser, report: Path) -> None:
    browser.open(report.as_uri())
    assert "2 of 123 tasks failed (exit code 1)" in text(browser, "#verdict")
    assert rows(browser)[:3] == [EVIL, "__proto__", "good-0"], "failures come first"
    assert len(rows(browser)) == 100
    browser.evaluate("document.getElementById('later').click()")
    assert text(browser, "#shown") == "101-123 of 123 tasks"
    choose(browser, "find", "GOOD-11")
    assert rows(browser) == ["good-11", *(f"good-11{number}" for number in range(10))]
    choose(browser, "find", "")
    choose(browser, "fault", "task.failed")
    assert rows(browser) == [EVIL, "__proto__"]
    choose(browser, "fault", "")
    browser.evaluate("document.querySelector('input[value=completed]').click()")
    assert text(browser, "#shown") == "1-100 of 121 tasks (of 123 in all)"
    stages = browser.evaluate(
        "[...document.querySelectorAll('#legend tr')].map(each => each.cells[0].textContent)"
    )
    assert stages[:3] == ["Queue", "Create", "Run"]
    bars = "document.querySelector('.bars').getAttribute('aria-label')"
    assert browser.evaluate(bars).startswith("attempt 1, accepted: Queue")


def test_what_tasks_wrote_is_text_and_runs_nothing(browser: Browser, report: Path) -> None:
    browser.requested.clear()
    browser.errors.clear()
    browser.open(report.as_uri())
    while browser.evaluate("document.querySelectorAll('.key[aria-expanded=false]').length"):
        browser.evaluate("document.querySelector('.key[aria-expanded=false]').click()")
    outputs = browser.evaluate("[...document.querySelectorAll('pre')].map(e => e.textContent)")
    assert f"{EVIL}\n" in outputs
    assert text(browser, ".detail .message") is not None
    assert browser.evaluate("document.querySelectorAll('img, script:not(#data), a').length") == 2
    assert browser.evaluate("typeof window.owned") == "undefined"
    assert browser.requested == [report.as_uri()]
    assert browser.errors == []


def test_the_policy_of_the_page_lets_no_other_script_run_and_nothing_load(
    browser: Browser, report: Path
) -> None:
    browser.open(report.as_uri())
    browser.errors.clear()
    refused = browser.evaluate(
        """new Promise(resolve => {
            const found = [];
            document.addEventListener("securitypolicyviolation", event => {
                found.push(event.effectiveDirective);
                if (found.length === 4) resolve(found.sort());
            });
            const add = html => document.body.insertAdjacentHTML("beforeend", html);
            add("<b onclick='window.owned = 3' id=bad></b>");
            document.getElementById("bad").click();
            add("<img src='http://127.0.0.1:9/x'>");
            const script = document.createElement("script");
            script.textContent = "window.owned = 4";
            document.body.append(script);
            fetch("http://127.0.0.1:9/y").catch(() => {});
        })"""
    )
    assert refused == ["connect-src", "img-src", "script-src-attr", "script-src-elem"]
    assert browser.evaluate("typeof window.owned") == "undefined"


def test_it_can_be_read_by_keyboard_in_light_and_in_dark(browser: Browser, report: Path) -> None:
    for theme in ("light", "dark"):
        browser.prefer(theme)
        browser.open(f"{report.as_uri()}#files")
        assert rows(browser) == ["files"], "the address names a task"
        contrasts = browser.evaluate(CONTRASTS)
        assert min(contrasts.values()) >= 4.5, (theme, contrasts)
    unnamed = browser.evaluate(
        "[...document.querySelectorAll('input, select, button')].filter("
        "each => !(each.labels?.length || each.textContent.trim())).length"
    )
    assert unnamed == 0
    assert browser.evaluate("document.querySelector('.key').closest('button').tabIndex") == 0
    assert browser.evaluate("getComputedStyle(document.body).overflowX") != "scroll"


CONTRASTS = """(() => {
    const style = getComputedStyle(document.documentElement);
    const light = name => {
        const probe = document.createElement("i");
        probe.style.color = style.getPropertyValue(name);
        document.body.append(probe);
        const rgb = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3);
        probe.remove();
        const [r, g, b] = rgb.map(each => each / 255).map(
            each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (one, other) => {
        const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    const found = {};
    for (const ink of ["--ink", "--muted", "--good", "--bad", "--infra", "--calm", "--accent"])
        for (const ground of ["--panel", "--soft", "--page"])
            found[ink + ground] = contrast(ink, ground);
    return found;
})()"""
"""How well each colour of texts can be told from each ground, by WCAG."""
