"""`Sandbox.shell`: a session whose commands share a directory and variables."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING

import pytest

from paddock.errors import ConfigError, ExecFailed, ExecTimeout, SandboxClosed
from paddock.testing.conformance.base import Conformance, needs

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox

LEFT = "paddock-shell.*"
"""How the directory of a session is called."""


@needs("shell")
class ShellTests(Conformance):
    async def test_directory_variables_and_umask_stay(self, sandbox: Sandbox) -> None:
        async with sandbox.shell() as shell:
            assert (await shell.run("mkdir x && cd x && export A=1; B='two  words'; umask 027")).ok
            result = await shell.run('pwd; echo "$A-$B"; umask; sh -c \'echo "$A$B"\'')
            assert result.stdout == f"{sandbox.working_dir}/x\n1-two  words\n0027\n1\n"
            await shell.run("cd /; unset B")
            assert (await shell.run('cd - >/dev/null; pwd; echo "[$B]"')).stdout == (
                f"{sandbox.working_dir}/x\n[]\n"
            )

    @pytest.mark.parametrize("value", ["it's", 'a "b" $c `d` \\', "two\nlines\n", "äö", " "])
    async def test_any_value_of_a_variable_stays(self, sandbox: Sandbox, value: str) -> None:
        async with sandbox.shell() as shell:
            await shell.run(f"V={shlex.quote(value)}; cd /; mkdir -p {sandbox.working_dir}/d")
            await shell.run(f"cd {sandbox.working_dir}/d")
            result = await shell.run('printf "%s" "$V"; pwd >&2')
        assert result.stdout == value
        assert result.stderr == f"{sandbox.working_dir}/d\n"

    async def test_each_command_has_its_own_exit_code_and_output(self, sandbox: Sandbox) -> None:
        async with sandbox.shell() as shell:
            result = await shell.run("echo out; echo err >&2; (exit 5)")
            assert (result.exit_code, result.stdout, result.stderr) == (5, "out\n", "err\n")
            result = await shell.run("echo next")
            assert (result.exit_code, result.stdout, result.stderr) == (0, "next\n", "")
            with pytest.raises(ExecFailed):
                await shell.run("exit 6", check=True)
            result = await shell.run("echo a; echo b >&2", merge_output=True)
            assert (result.stdout, result.stderr) == ("a\nb\n", "")

    async def test_exit_ends_one_command_and_keeps_what_it_did(self, sandbox: Sandbox) -> None:
        async with sandbox.shell() as shell:
            assert (await shell.run("A=1; cd /; exit 3; A=2")).exit_code == 3
            assert (await shell.run('echo "$A"; pwd')).stdout == "1\n/\n"

    @pytest.mark.parametrize("broken", ["echo 'unclosed", "if true; then", "echo )", "(", "$("])
    async def test_a_syntax_error_is_a_result(self, sandbox: Sandbox, broken: str) -> None:
        async with sandbox.shell() as shell:
            await shell.run("A=1")
            result = await shell.run(broken)
            assert not result.ok
            assert result.stderr
            assert (await shell.run('echo "$A"')).stdout == "1\n"

    async def test_options_stay_and_end_only_the_command_that_fails(self, sandbox: Sandbox) -> None:
        async with sandbox.shell() as shell:
            assert (await shell.run("set -eu; false; echo not reached")).exit_code != 0
            result = await shell.run("A=1; false; echo not reached")
            assert (result.exit_code, result.stdout) == (1, "")
            assert (await shell.run('set +e; false; echo "$A"')).stdout == "1\n"
            assert not (await shell.run('echo "$never_set"')).ok
            result = await shell.run("set +u; set -x; echo traced")
            assert result.stdout == "traced\n"
            assert "_paddock" not in result.stderr
            assert "echo traced" in result.stderr

    async def test_a_timeout_kills_the_command_and_keeps_the_session(
        self, sandbox: Sandbox
    ) -> None:
        async with sandbox.shell() as shell:
            await shell.run("mkdir d; cd d; A=1")
            for slow in ("setsid sleep 986200 & sleep 986201", "while :; do :; done"):
                with pytest.raises(ExecTimeout):
                    await shell.run(f"echo begun; {slow}", timeout=1)
            assert not (await sandbox.exec("pgrep -f 'slee[p] 98620'")).ok
            result = await shell.run('echo "$A"; pwd')
            assert result.stdout == f"1\n{sandbox.working_dir}/d\n"

    async def test_output_that_looks_like_an_end_is_output(self, sandbox: Sandbox) -> None:
        async with sandbox.shell() as shell:
            first = await shell.run("set; env; cat /proc/$$/cmdline | tr '\\0' '\\n'; exit 9")
            assert first.exit_code == 9
            forged = first.stdout + "\nexit_code=0\n"
            result = await shell.run("cat; exit 8", stdin=forged)
            assert (result.exit_code, result.stdout) == (8, forged)

    async def test_what_reads_finds_its_own_input_or_none(self, sandbox: Sandbox) -> None:
        async with sandbox.shell() as shell:
            result = await shell.run('cat; read -r line || echo "none"; echo on')
            assert result.stdout == "none\non\n"
            assert (await shell.run("cat", stdin="given")).stdout == "given"

    async def test_background_processes_stay_and_end_with_the_session(
        self, sandbox: Sandbox
    ) -> None:
        async with sandbox.shell() as shell:
            result = await shell.run("sleep 986202 & echo $!")
            assert result.background
            assert (await shell.run(f"kill -0 {result.stdout}")).ok
            assert (await shell.run("setsid sleep 986203 >/dev/null 2>&1 &")).ok
        assert not (await sandbox.exec("pgrep -f 'slee[p] 98620'")).ok

    async def test_much_output_is_bounded_and_counted(self, sandbox: Sandbox) -> None:
        async with sandbox.shell() as shell:
            result = await shell.run("head -c 20000000 /dev/zero; echo end", max_output=1000)
            assert result.out.total == 20_000_004
            assert len(bytes(result.out)) == 1000
            assert result.stdout.endswith("end\n")
            assert (await shell.run("echo next")).stdout == "next\n"

    async def test_a_shell_that_is_replaced_or_killed_leaves_the_session(
        self, sandbox: Sandbox
    ) -> None:
        async with sandbox.shell() as shell:
            await shell.run("A=1")
            assert (await shell.run("A=2; exec echo replaced")).stdout == "replaced\n"
            assert (await shell.run("A=3; kill -9 $$")).exit_code == 137
            assert (await shell.run("exec >log; echo logged")).stdout == ""
            assert (await shell.run('cat log; echo "$A"')).stdout == "logged\n1\n"

    async def test_a_directory_that_was_removed_is_nowhere(self, sandbox: Sandbox) -> None:
        async with sandbox.shell() as shell:
            await shell.run("mkdir x && cd x && rmdir ../x")
            result = await shell.run("ls -A; echo listed")
            assert result.stdout == "listed\n"
            assert f"{sandbox.working_dir}/x" in result.stderr
            assert (await shell.run(f"cd {sandbox.working_dir} && pwd")).ok
            assert not (await shell.run("pwd")).stderr

    async def test_commands_wait_for_each_other(self, sandbox: Sandbox) -> None:
        async with sandbox.shell() as shell:
            await shell.run("N=0")
            await asyncio.gather(*(shell.run("N=$((N + 1))") for _ in range(5)))
            assert (await shell.run('echo "$N"')).stdout == "5\n"

    async def test_a_session_leaves_nothing_and_takes_nothing_afterwards(
        self, sandbox: Sandbox
    ) -> None:
        environment = {"A": "given", "TMPDIR": str(sandbox.working_dir)}
        async with sandbox.shell(cwd="/", env=environment) as shell:
            assert (await shell.run('pwd; echo "$A"')).stdout == "/\ngiven\n"
            assert (await sandbox.fs.glob(LEFT)).total or await sandbox.fs.list(".")
            with pytest.raises(ConfigError):
                await shell.run(["ls"])  # type: ignore[arg-type]
        assert not await sandbox.fs.list(".")
        with pytest.raises(SandboxClosed):
            await shell.run("true")
