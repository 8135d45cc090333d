"""`Sandbox.exec`: what every backend promises of a command."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ConfigError, ExecFailed, ExecTimeout
from paddock.testing.conformance.base import Conformance, needs
from paddock.testing.conformance.watch import MARK, bounded_memory

if TYPE_CHECKING:
    from paddock.sandbox import Sandbox, Stream


class ExecTests(Conformance):
    async def test_exit_code_stdout_and_stderr_are_apart(self, sandbox: Sandbox) -> None:
        result = await sandbox.exec("echo out; echo err >&2; exit 3")
        assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")
        assert not result.ok
        assert not result.background
        assert 0 < result.duration < 10

    async def test_a_sequence_never_meets_a_shell(self, sandbox: Sandbox) -> None:
        words = ["$HOME", "a b", "'", '"', ";", "`id`", "*", "", "-n", "\n", "über", "\udcff"]
        result = await sandbox.exec(["printf", "%s\\0", *words])
        assert result.stdout_bytes == b"".join(os.fsencode(word) + b"\0" for word in words)

    async def test_a_program_that_is_missing_is_127_and_one_that_cannot_run_is_126(
        self,
        sandbox: Sandbox,
    ) -> None:
        missing = await sandbox.exec(["no-such-program-anywhere"])
        assert missing.exit_code == 127
        assert "no-such-program-anywhere" in missing.stderr
        await sandbox.fs.write_text("plain", "text")
        refused = await sandbox.exec(["./plain"])
        assert refused.exit_code == 126
        assert "plain" in refused.stderr

    @needs("shell")
    async def test_a_program_of_any_length_runs_and_reads_its_own_stdin(
        self, sandbox: Sandbox
    ) -> None:
        """A kernel takes no more than 128 KiB in one argument."""
        lines = [f"line {number} \\ $x '\t" for number in range(40_000)]
        text = "\n".join(["cat > long <<'E'", *lines, "E", "wc -l < long; cat; exit 3"])
        result = await sandbox.exec(text, stdin="its own\n")
        assert (result.exit_code, result.stdout) == (3, "40000\nits own\n")
        assert await sandbox.fs.read_text("long") == "\n".join([*lines, ""])
        assert (await sandbox.exec(["sh", "-c", f'{"#" * 200_000}\necho "$1"', "sh", "x"])).ok
        async with await sandbox.start(text) as process:
            await process.send(b"typed\n")
            await process.send_eof()
            assert (await process.wait()).stdout == "40000\ntyped\n"

    async def test_a_signal_is_128_and_its_number(self, sandbox: Sandbox) -> None:
        assert (await sandbox.exec("kill -9 $$")).exit_code == 137
        assert (await sandbox.exec("kill -15 $$")).exit_code == 143

    async def test_every_byte_value_survives(self, sandbox: Sandbox) -> None:
        for data in (bytes(range(256)) * 64, os.urandom(1024 * 1024)):
            result = await sandbox.exec(["cat"], stdin=data)
            assert result.stdout_bytes == data
            assert "\ufffd" in result.stdout  # decoding replaces what is not UTF-8

    async def test_stdin_is_empty_unless_given(self, sandbox: Sandbox) -> None:
        assert (await sandbox.exec("cat; read x; echo $?", timeout=60)).stdout == "1\n"
        assert (await sandbox.exec("cat", stdin="given")).stdout == "given"

    @pytest.mark.parametrize("stdin", ["x\ud83d", 5, ["a"], object()], ids=lambda it: repr(it)[:12])
    async def test_stdin_that_cannot_be_written_is_refused_before_anything_runs(
        self, sandbox: Sandbox, stdin: Any
    ) -> None:
        with pytest.raises(ConfigError, match="stdin: "):
            await asyncio.wait_for(sandbox.exec("touch ran; cat", stdin=stdin), 60)
        assert not await sandbox.fs.exists("ran")

    async def test_a_command_that_would_ask_a_person_ends_at_once(self, sandbox: Sandbox) -> None:
        if not (await sandbox.exec("command -v git")).ok:
            pytest.skip("there is no git in this sandbox")
        name = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        await sandbox.exec("git init -q . && echo x > f && git add f", check=True)
        asked = await sandbox.exec(["git", *name, "commit"], timeout=60)
        assert not asked.ok  # an editor or a message, and nobody to give either
        assert (await sandbox.exec(["git", *name, "commit", "-q", "-m", "said"], timeout=60)).ok

    async def test_a_megabyte_of_stdin_goes_through_and_one_that_is_not_read_is_dropped(
        self,
        sandbox: Sandbox,
    ) -> None:
        data = os.urandom(3 * 1024 * 1024)
        counted = await sandbox.exec(["wc", "-c"], stdin=data)
        assert int(counted.stdout) == len(data)
        assert (await sandbox.exec("true", stdin=data)).ok
        assert (await sandbox.exec("head -c 3", stdin=data)).stdout_bytes == data[:3]

    async def test_env_is_the_sandboxs_own_plus_what_is_given(
        self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CANARY_OF_THE_HOST", "secret")
        result = await sandbox.exec(["env"], env={"MINE": "a=b\nc"})
        assert "MINE=a=b\nc\n" in result.stdout
        assert "CANARY" not in result.stdout
        names = {line.partition("=")[0] for line in result.stdout.splitlines() if "=" in line}
        of_shells_and_logins = {"PWD", "SHLVL", "_", "OLDPWD", "USER", "LOGNAME"}
        assert names <= {*sandbox.env, "MINE", *of_shells_and_logins}

    @needs("python")
    async def test_a_command_has_three_descriptors(self, sandbox: Sandbox) -> None:
        listed = await sandbox.exec(
            ["python3", "-c", "import os; print(os.listdir('/proc/self/fd'))"]
        )
        assert listed.stdout == "['0', '1', '2', '3']\n"  # the fourth is the listing's own

    async def test_cwd_starts_from_the_working_directory(self, sandbox: Sandbox) -> None:
        await sandbox.fs.mkdir("below/there")
        assert (await sandbox.exec("pwd")).stdout.strip() == str(sandbox.working_dir)
        relative = await sandbox.exec("pwd", cwd="below/there")
        assert relative.stdout.strip() == str(sandbox.working_dir / "below/there")
        assert (await sandbox.exec("pwd", cwd="/")).stdout == "/\n"
        with pytest.raises(FileNotFoundError):
            await sandbox.exec("pwd", cwd="nowhere")

    async def test_check_raises_with_the_output(self, sandbox: Sandbox) -> None:
        with pytest.raises(ExecFailed, match=r"exit 4.*(?s:.*)why") as caught:
            await sandbox.exec("echo why >&2; exit 4", check=True)
        assert caught.value.exit_code == 4

    async def test_long_output_keeps_head_and_tail_and_spills(self, sandbox: Sandbox) -> None:
        result = await sandbox.exec("seq 200000", max_output=1000)
        whole = "".join(f"{n}\n" for n in range(1, 200001)).encode()
        assert result.truncated
        assert result.out.head == whole[:500]
        assert result.out.tail == whole[-500:]
        assert result.out.dropped == len(whole) - 1000
        assert result.out.total == len(whole)
        if result.out.spill is not None:  # not every backend can keep the whole
            assert str(result.out.spill) in result.stdout
            assert await sandbox.fs.read_bytes(result.out.spill) == whole

    async def test_output_up_to_the_limit_is_whole(self, sandbox: Sandbox) -> None:
        for size in (0, 1, 999, 1000):
            result = await sandbox.exec(f"head -c {size} /dev/zero", max_output=1000)
            assert result.stdout_bytes == bytes(size)
            assert not result.truncated
            assert result.out.spill is None
        assert (await sandbox.exec("head -c 1001 /dev/zero", max_output=1000)).out.dropped == 1

    @needs("shell")
    async def test_on_output_sees_every_byte_as_it_comes(self, sandbox: Sandbox) -> None:
        seen: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        first = asyncio.Event()

        async def collect(stream: Stream, data: bytes) -> None:
            seen[stream] += data
            first.set()

        command = "echo begin; read gate; seq 100000; echo end >&2"
        async with asyncio.timeout(60):
            process = asyncio.create_task(
                sandbox.exec(
                    f"mkfifo gate; echo begin; cat gate; {command.partition('; ')[2][11:]}",
                    on_output=collect,
                    max_output=100,
                )
            )
            await first.wait()
            assert bytes(seen["stdout"]) == b"begin\n"  # long before the command ends
            await sandbox.exec("echo open > gate")
            result = await process
        whole = "begin\nopen\n" + "".join(f"{n}\n" for n in range(1, 100001))
        assert bytes(seen["stdout"]) == whole.encode()
        assert bytes(seen["stderr"]) == b"end\n"
        assert result.out.dropped == len(whole) - 100
        assert result.out.head == whole[:50].encode()

    async def test_a_failing_on_output_ends_the_command(self, sandbox: Sandbox) -> None:
        def fail(stream: Stream, data: bytes) -> None:
            raise LookupError("the display is gone")

        with pytest.raises(LookupError, match="display"):
            await sandbox.exec(f"echo 1; exec sleep {MARK}9", on_output=fail)
        assert not (await sandbox.exec(f"pgrep -f 'slee[p] {MARK}9'")).ok

    async def test_a_slow_reader_slows_the_command_and_no_buffer_grows(
        self, sandbox: Sandbox
    ) -> None:
        taken = 0

        async def slow(stream: Stream, data: bytes) -> None:
            nonlocal taken
            taken += len(data)
            await asyncio.sleep(0.005)

        with pytest.raises(ExecTimeout) as caught:
            await sandbox.exec("yes", on_output=slow, timeout=1, max_output=1000)
        # What the command printed is what was taken, plus a window and the pipes.
        assert caught.value.result.out.total < taken + 4 * 1024 * 1024

    async def test_endless_output_is_bounded_and_ends_with_the_timeout(
        self, sandbox: Sandbox
    ) -> None:
        async with bounded_memory():
            with pytest.raises(ExecTimeout) as caught:
                await sandbox.exec(f"yes {MARK}", timeout=1)
        result = caught.value.result
        assert result.out.total > 1_000_000
        assert len(result.stdout_bytes) == 1024 * 1024
        assert result.out.dropped == result.out.total - 1024 * 1024
        assert not (await sandbox.exec(f"pgrep -f 'ye[s] {MARK}'")).ok

    async def test_a_line_that_is_larger_than_the_host_may_grow_is_bounded(
        self, sandbox: Sandbox
    ) -> None:
        async with bounded_memory():
            result = await sandbox.exec("head -c 128M /dev/zero", timeout=60)
        assert result.out.total == 128 * 1024**2
