"""Repositories and large bodies pass the proxy of an allow list whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.contract.network.git_served import git, serving
from tests.contract.network.sites import DEADLINE, confined, python

if TYPE_CHECKING:
    from pathlib import Path

    from paddock.backends.docker import DockerBackend
    from paddock.backends.local import LocalBackend

SIZE = 30_000_000
UPLOAD = """
import sys, urllib.request
size, chunked = int(sys.argv[2]), sys.argv[3] == "chunked"
data = iter([bytes(size // 10)] * 10) if chunked else bytes(size)
request = urllib.request.Request(sys.argv[1], data=data, method="PUT")
print(urllib.request.urlopen(request).read().decode())
"""
WORK = """
set -e
git clone -q {url} w && cd w && ls | wc -l
git config user.email a@b.c && git config user.name n
head -c 2000000 /dev/urandom > large && git add large && git commit -qm large
git push -q origin HEAD:refs/heads/new && git fetch -q && git branch -r
"""


async def test_a_repository_is_cloned_and_pushed_to_and_uploads_arrive(
    backend: DockerBackend | LocalBackend, tmp_path: Path
) -> None:
    git("init", "-q", "--bare", "r.git", cwd=tmp_path)
    git("-C", "r.git", "config", "http.receivepack", "true", cwd=tmp_path)
    git("init", "-q", "made", cwd=tmp_path)
    for number in range(100):
        (tmp_path / f"made/f{number}").write_text(str(number))
    git("add", ".", cwd=tmp_path / "made")
    identity = ("-c", "user.email=a@b.c", "-c", "user.name=n")
    git(*identity, "commit", "-qm", "all", cwd=tmp_path / "made")
    git("push", "-q", str(tmp_path / "r.git"), "HEAD:master", cwd=tmp_path / "made")
    with serving(tmp_path) as port:
        url = f"http://site.test:{port}"
        async with confined(backend, f"site.test:{port}").sandbox() as sandbox:
            result = await sandbox.exec(WORK.format(url=f"{url}/r.git"), timeout=DEADLINE)
            assert result.ok, result.stderr
            assert result.stdout.split()[0] == "100"
            assert "origin/new" in result.stdout
            for way in ("whole", "chunked"):
                result = await python(sandbox, UPLOAD, f"{url}/x", str(SIZE), way)
                assert result.stdout == f"{SIZE}\n", result.stderr
