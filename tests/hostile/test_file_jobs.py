"""What does a file call for another user is that user's process, and has a way to the guest."""

from __future__ import annotations

from paddock.backends.docker import DockerBackend


async def test_the_process_of_a_call_is_closed_to_the_user_it_works_for(base_image: str) -> None:
    async with DockerBackend(image=base_image, network="none").sandbox() as sandbox:
        await sandbox.exec("mkdir -m 777 theirs", check=True)
        async with sandbox.fs.as_user("nobody").open_write("theirs/f") as file:
            found = await sandbox.exec("grep -lE '^Uid:\\s+65534' /proc/[0-9]*/status")
            (status,) = found.stdout.split()
            process = status.rpartition("/")[0]
            for attack in (f"ls {process}/fd", f"cat {process}/environ", f"cat {process}/maps"):
                result = await sandbox.exec(attack, user="nobody")
                assert not result.ok, attack
                assert "denied" in result.stderr
            await file.write(b"untouched")
        assert await sandbox.fs.read_text("theirs/f") == "untouched"


async def test_a_swapped_name_leads_a_call_for_another_user_nowhere_else(base_image: str) -> None:
    async with DockerBackend(image=base_image, network="none").sandbox() as sandbox:
        await sandbox.exec("mkdir -m 777 theirs; echo kept > mine; chmod 600 mine", check=True)
        theirs = sandbox.fs.as_user("nobody")
        async with theirs.open_write("theirs/f") as file:
            await file.write(b"new")
            await sandbox.exec("ln -sf ../mine theirs/f", user="nobody", check=True)
        assert await sandbox.fs.read_text("mine") == "kept\n"
        assert await theirs.read_text("theirs/f") == "new"
