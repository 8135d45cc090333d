"""The restricted shell: what it lets through, what it refuses, and that nothing ever changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddock.runtime.shell import RESTRICTED_ENV, Allowed, Blocked, check_command
from paddock.runtime.shell.programs import RULES

if TYPE_CHECKING:
    from pathlib import Path

ALLOWED = [
    "ls",
    "ls -la",
    "ls 2>/dev/null",
    "ls -la src tests 2>&1 | head -20",
    "ls *.py",
    "ls ~/src",
    "ls '$(touch x)'",
    "ls \\$HOME",
    "cat README.md",
    "cat <README.md",
    "cat a b >/dev/null 2>&1",
    "head -5 *.py",
    "tail -n 20 log; echo $?",
    "wc -l $HOME/x",
    "cd src && ls -l || echo none",
    "pwd # where am I",
    "ls\npwd\n",
    "ls |\n  sort -rn |\n  uniq -c",
    "ls \\\n  -la",
    'grep -rn "foo bar" --include=*.py . | head',
    "grep -c 'x$' file",
    'grep "a$" file',
    "grep -e foo -e bar *.txt",
    "rg -n 'def .*test' src",
    "rg --files -g '*.py'",
    "find . -name '*.py' -not -path './.git/*'",
    "find . -name *.py -type f -size -10k",
    "find src tests -maxdepth 2 -type d -print0",
    "find . \\( -name a -o -name b \\) -mtime -1",
    "sort -t, -k2 a | uniq -c | sort -rn",
    "cut -d: -f1 /etc/passwd",
    "tr a-z A-Z <README.md",
    "sed -n '1,20p' file",
    "sed -n -e '/start/,/end/p' file",
    "sed 10q file",
    "diff -u a b",
    "stat -c %s file",
    "du -sh .",
    "df -h",
    "tree -L 2 -I node_modules",
    "file -b --mime-type x",
    "jq -r '.a[]' x.json",
    "sha256sum a",
    "date +%s",
    "date -u '+%Y-%m-%d'",
    "command -v python3",
    "which -a git",
    "env",
    "ps aux",
    "uname -a",
    "hostname",
    "[ -f a ] && echo yes",
    "test -d src",
    "printf '%s\\n' a b",
    "echo 'rm -rf /' \"> x\"",
    "git status --short",
    "git log --oneline -5",
    "git --no-pager log --since=yesterday -- src/*.py",
    "git diff HEAD~1 --stat",
    "git -C sub show HEAD:a.py",
    "git blame -L 1,10 a.py",
    "git branch -a",
    "git branch --list 'feat*'",
    "git tag -l 'v*'",
    "git remote -v",
    "git config --get user.name",
    "git rev-parse --abbrev-ref HEAD",
    "git grep -n foo",
    "git ls-files '*.py'",
    "git stash list",
]

OPEN_TO_DRIVERS = [
    "git diff",
    "git diff HEAD",
    "git log -p --format=%G?",
    "git show --stat -p",
    "git blame a",
    "git stash show --stat",
    "git reflog",
    "git grep second",
]
"""What makes git start programs that a repository's configuration names, if it is let."""

BLOCKED = [
    "",
    "   \n",
    "# only a comment",
    "rm -rf x",
    "python3 -c 'print(1)'",
    "echo x | sh",
    "echo x | xargs rm",
    "xargs",
    "eval ls",
    "exec ls",
    "sudo ls",
    "nohup ls",
    "find . -delete",
    "find . -exec rm {} +",
    "find . -ok rm {} \\;",
    "find . -fprint x",
    "find . -fls x",
    "find . -name -delete",
    "find . -newer -delete",
    "find -L . -execdir id \\;",
    "env python3 -c 1",
    "env X=1 ls",
    "env -S 'rm x'",
    "awk 'BEGIN{system(\"id\")}'",
    "echo $(id)",
    'echo "$(id)"',
    "echo `id`",
    'echo "`id`"',
    "echo ${HOME}",
    "echo ${x:=y}",
    "echo $((1+1))",
    "echo $[1+1]",
    "echo $'\\x41'",
    'echo $"x"',
    "echo $SECRET",
    "echo $1 $@ $$ $!",
    "X=1 ls",
    "PATH=. ls",
    "X=1",
    "(ls)",
    "{ ls; }",
    "f() { ls; }",
    "if true; then ls; fi",
    "while true; do ls; done",
    "for i in a; do ls; done",
    "! ls",
    "ls &",
    "ls & rm x",
    "ls &>/dev/null",
    "ls |& sh",
    "ls ;; ls",
    "ls &&",
    "&& ls",
    "ls | | ls",
    "; ls",
    "ls > out",
    "ls >> out",
    "ls >| out",
    "ls 3>/dev/null",
    "ls >&out",
    "ls 2>&1 >out",
    "ls >/dev/null >out",
    "ls >/dev/nullx",
    "ls >/dev/null/../tty",
    "ls > $HOME",
    "> out",
    "cat <<EOF\nx\nEOF",
    "cat <<<x",
    "cat <(ls)",
    "ls >(sh)",
    "cat <>x",
    "cat < *",
    "cat </dev/tcp/127.0.0.1/80",
    "ls 'a",
    'ls "a',
    "ls \\",
    "ls\rrm x",
    "ls\x00",
    "ls \u200b",
    "ls \u202e",
    "l\u0455",  # a Cyrillic letter that looks like an s
    "\uff4c\uff53",
    "./ls",
    "/bin/ls",
    "../ls",
    "l*",
    "$HOME",
    "~/ls",
    "ls ~root",
    "\\rm x",
    "r''m x",
    "sed -i s/a/b/ x",
    "sed -ni 1p x",
    "sed -n --in-place 1p x",
    "sed -n --in-pl 1p x",
    "sed -n 'w out' x",
    "sed -n 1p -e 'w out' x",
    "sed 's/a/b/e' x",
    "sed 's/a/b/w out' x",
    "sed -n '1e id' x",
    "sed -n '1p;r x' x",
    "sed -n '1p\nw out' x",
    "sed -f script x",
    "sed --expression='e id' x",
    "sed -n '/[/]/w out/p' x",
    "sort -o out in",
    "sort -no out in",
    "sort -oout in",
    "sort in -o out",
    "sort --output=out in",
    "sort --out=out in",
    "sort --compress-program=sh in",
    "sort --compress-prog sh in",
    "sort -T . in",
    "sort -k -o in",
    "uniq in out",
    "uniq -- in out",
    "tree -o out",
    "tree -Lo 2 out",
    "tree -R -H x",
    "rg --pre sh x",
    "rg --pre=sh x",
    "rg --pr sh x",
    "rg -z x",
    "rg --hostname-bin sh x",
    "date -s 2020-01-01",
    "date 010100002020",
    "date --set=now",
    "hostname evil",
    "hostname -F x",
    "command ls",
    "command -p rm x",
    "printf -v x y",
    "test -v 'a[$(id)]'",
    "[ -R x ]",
    "test 'a[$(id)]' -eq 1",
    "diff --to-file=x --paginate a",
    "diff -l a b",
    "file -C -m x",
    "file -z x",
    "tee out",
    "dd if=a of=b",
    "less x",
    "vi x",
    "git",
    "git push",
    "git commit -m x",
    "git checkout .",
    "git clean -fd",
    "git gc",
    "git fetch",
    "git -c core.pager='!sh' log",
    "git -ccore.pager=sh log",
    "git --exec-path=. log",
    "git --git-dir=x log",
    "git -p log",
    "git --paginate log",
    "git diff --output=out",
    "git diff --outp=out",
    "git log --output out",
    "git diff --ext-diff",
    "git log -p --textconv",
    "git log -Oorder",
    "git grep -Osh x",
    "git grep --open-files-in-pager=sh x",
    "git branch new",
    "git branch -D main",
    "git branch -m a b",
    "git tag v1",
    "git tag -d v1",
    "git remote add x y",
    "git remote update",
    "git config user.name x",
    "git config --unset user.name",
    "git config -e",
    "git config edit",
    "git stash",
    "git stash pop",
    "git stash show --output=x",
    "git reflog expire --all",
    "git worktree add x",
    "git cat-file --batch-command --textconv x",
    "git ls-remote --upload-pack=sh .",
    "git lo*",
    "git help log",
]


@pytest.mark.rows("S-39", "S-45")
@pytest.mark.parametrize("command", ALLOWED)
def test_a_command_that_only_reads_is_allowed(command: str) -> None:
    assert isinstance(check_command(command), Allowed)


@pytest.mark.rows("S-39", "S-45")
@pytest.mark.parametrize("command", BLOCKED)
def test_a_command_that_could_do_more_is_blocked_with_a_reason(command: str) -> None:
    decision = check_command(command)
    assert isinstance(decision, Blocked)
    assert decision.reason


@pytest.mark.parametrize("command", ALLOWED)
def test_what_was_understood_is_understood_the_same_way_again(command: str) -> None:
    decision = check_command(command)
    assert isinstance(decision, Allowed)
    unaided = decision.command.replace(" --no-ext-diff", "").replace(" --no-textconv", "")
    assert check_command(unaided) == decision


@pytest.mark.parametrize(
    ("command", "understood"),
    [
        ("ls *", "ls ./*"),  # a file may be called -R
        ("cat -- *.py", "cat -- ./*.py"),
        ("uniq *", "uniq '*'"),  # a second file would be written
        ("git config a.*", "git config 'a.*'"),
        ("find . -name *.py", "find . -name '*.py'"),
        ("grep fo* *.c", "grep 'fo*' ./*.c"),
        ("echo \"a $HOME\"'b'", "echo 'a '\"$HOME\"b"),
        ('echo "$\\\n(id)"', "echo '$(id)'"),
        ("uniq in -c", "uniq -c in"),  # not every uniq takes -c for an option there
        ("sed 'w out' -e p x", "sed -e p 'w out' x"),
        ("git log a --not b", "git log --no-ext-diff --no-textconv a --not b"),
        ("git diff x", "git diff --no-ext-diff --no-textconv x"),
        ("[ -d . ]", "'[' -d . ']'"),
        ("ls;pwd\n\nls", "ls ; pwd ; ls"),
        ("cat<a 2> /dev/null", "cat <a 2>/dev/null"),
        ("ls ''", "ls ''"),
    ],
)
def test_the_shell_gets_to_see_only_what_was_understood(command: str, understood: str) -> None:
    decision = check_command(command)
    assert isinstance(decision, Allowed)
    assert decision.command == understood


PIECES = st.sampled_from(
    [
        *(word for command in (*ALLOWED, *BLOCKED) for word in command.split(" ") if word),
        *RULES, "-o", "-i", "-delete", "--output", "=", "out", "canary", "sub", "*", "-*", "|", "&",
        ";", "&&", "\n", ">", "<", "2>&1", "$(", ")", "`", "'", '"', "\\", "{", "}", "touch", "rm",
    ]
)  # fmt: skip
RANDOM_LINES = st.lists(st.tuples(PIECES, st.sampled_from([" ", " ", " ", ""])), max_size=10).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
)


@st.composite
def _altered(draw: st.DrawFn) -> str:
    """An allowed command with some pieces put in: often still allowed, which is the point."""
    words = draw(st.sampled_from(ALLOWED)).split(" ")
    for piece in draw(st.lists(PIECES, min_size=1, max_size=3)):
        words.insert(draw(st.integers(0, len(words))), piece)
    return " ".join(words)


LINES = st.one_of(RANDOM_LINES, _altered())


@given(st.one_of(LINES, st.text(max_size=60)))
@settings(max_examples=1500, deadline=None)
def test_an_allowed_command_has_no_unquoted_construct_that_runs_or_writes(line: str) -> None:
    decision = check_command(line)
    if isinstance(decision, Blocked):
        return
    bare = _without_quotes(decision.command)
    assert not set(bare) & set("`(){}\n\\")
    assert "$" not in bare
    for target in bare.split(">")[1:]:
        assert target.startswith(("/dev/null", "&1", "&2"))
    for name in bare.replace("&&", ";").replace("||", ";").replace("|", ";").split(";"):
        assert name.split()[:1] == [] or name.split()[0] in {*RULES, "Q"}


def _without_quotes(command: str) -> str:
    """`command` with every quoted piece as a Q, and known variables too."""
    bare, at = "", 0
    while at < len(command):
        if command[at] in "'\"":
            end = command.index(command[at], at + 1)
            bare, at = bare + "Q", end + 1
        else:
            bare, at = bare + command[at], at + 1
    return bare


def _prepare(root: Path) -> None:
    (root / "sub").mkdir()
    for name in ("canary", "in", "a", "b", "x", "out", "-delete", "-oevil", "--output=evil"):
        (root / name).write_text(f"{name}\nsecond\n")
    (root / "sub" / "a.py").write_text("foo\n")
    (root / "x.json").write_text('{"a": [1]}')
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    evil = f"touch {root}/evil; echo"
    config = {
        "core.fsmonitor": evil, "core.pager": evil, "diff.external": evil, "gpg.program": evil,
        "diff.d.textconv": evil, "diff.d.command": evil, "log.showSignature": "true",
    }  # fmt: skip
    subprocess.run([*git, "init", "-q", root], check=True)
    (root / ".gitattributes").write_text("* diff=d\n")
    subprocess.run([*git, "-C", root, "add", "a", "b", ".gitattributes"], check=True)
    subprocess.run([*git, "-C", root, "commit", "-qm", "one"], check=True)
    (root / "a").write_text("changed\n")
    for key, value in config.items():
        subprocess.run([*git, "-C", root, "config", key, value], check=True)


def _fingerprint(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "directory"
        for path in sorted(root.rglob("*"))
    }


def _run(command: str, root: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(root), **RESTRICTED_ENV}
    subprocess.run(
        ["sh", "-c", command], cwd=root, env=env, stdin=subprocess.DEVNULL, timeout=20,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@pytest.fixture
def canaries(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    _prepare(tmp_path)
    return tmp_path


def test_running_every_allowed_command_changes_no_file(canaries: Path) -> None:
    before = _fingerprint(canaries)
    for command in [*ALLOWED, *OPEN_TO_DRIVERS]:
        decision = check_command(command)
        assert isinstance(decision, Allowed)
        _run(decision.command, canaries)
        assert _fingerprint(canaries) == before, command


@pytest.mark.parametrize("command", ["git diff", "git status", "git blame a", "git log -p"])
def test_the_canaries_do_show_what_a_repository_can_start(canaries: Path, command: str) -> None:
    subprocess.run(
        command.split(), cwd=canaries, env={"PATH": os.environ["PATH"], "HOME": str(canaries)},
        check=False, capture_output=True,
    )  # fmt: skip
    assert (canaries / "evil").exists()


@given(line=LINES)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_running_whatever_is_allowed_changes_no_file(canaries: Path, line: str) -> None:
    decision = check_command(line)
    if isinstance(decision, Allowed):
        before = _fingerprint(canaries)
        _run(decision.command, canaries)
        assert _fingerprint(canaries) == before
