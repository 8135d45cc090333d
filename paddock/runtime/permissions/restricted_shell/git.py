"""git, as far as it only reads: some subcommands, each with its own options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from paddock.runtime.permissions.restricted_shell.rules import Arguments, Options
from paddock.runtime.permissions.restricted_shell.syntax import Refused, Text, Word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.permissions.restricted_shell.rules import Rule

__all__ = ["GitRule"]


_NO_TEXTCONV = Word((Text("--no-textconv"),))
_NO_DRIVERS = (Word((Text("--no-ext-diff"),)), _NO_TEXTCONV)
"""Diffs may start programs that the repository's configuration names; with these they don't."""
_NO_SUBMODULES = Word((Text("--ignore-submodules=dirty"),))
"""Looking into submodules starts git there."""


def _lists_only(arguments: Arguments) -> None:
    if arguments.operands and not arguments.has("--list", "-l"):
        raise Refused("operands are allowed with --list only")


def _config_reads_only(arguments: Arguments) -> None:
    asks = arguments.has("--get", "--get-all", "--get-regexp", "--get-urlmatch", "--list", "-l")
    names_one = len(arguments.operands) == 1 and "." in arguments.operands[0]
    if not asks and not names_one:
        raise Refused("only reading is allowed: use --get or --list")


@dataclass(frozen=True, slots=True)
class _Actions:
    """Subcommands of a subcommand, each with its own options.

    The action has to follow at once: what stands before it may make it an operand of
    another one, as in ``git stash -- show``. `added` is put after it.
    """

    actions: Mapping[str, Rule]
    bare: Rule | None = None
    """What is allowed without an action."""
    added: tuple[Word, ...] = ()

    def check(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        if words and words[0].plain and words[0].text in self.actions:
            rest = self.actions[words[0].text].check(words[1:])
            return (words[0], *self.added, *rest)
        if self.bare is None:
            raise Refused(f"only {' and '.join(sorted(self.actions))} are allowed")
        return self.bare.check(words)


_VALUES: Mapping[str, frozenset[str | None]] = {
    # A submodule has settings of its own, which were not checked.
    "--ignore-submodules": frozenset({None, "all", "dirty"}),
    "--submodule": frozenset({None, "short", "log"}),
    # `remerge` merges anew, with the programs that the repository names for that.
    "--diff-merges": frozenset(
        {"off", "none", "on", "m", "first-parent", "1", "separate", "combined", "c",
         "dense-combined", "cc"}
    ),
}  # fmt: skip


def _known_values(arguments: Arguments) -> None:
    for name, value in arguments.options:
        if value not in _VALUES.get(name, {value}):
            raise Refused(f"{name}={value} is not allowed")


_HISTORY = Options(
    short="abcEFghilmpPqrRstuvwWzB::C::G:L:M::n:S:U:",
    long="abbrev-commit abbrev=? after= all all-match anchored= ancestry-path author-date-order "
    "author= basic-regexp before= binary bisect boundary branches=? cached cc check cherry "
    "cherry-mark cherry-pick clear-decorations color=? color-moved=? color-words=? "
    "combined-all-paths committer= compact-summary count cumulative date-order date= "
    "decorate=? decorate-refs= diff-algorithm= diff-filter= diff-merges= dirstat=? dense "
    "do-walk dst-prefix= encoding= exclude= exit-code expand-tabs=? extended-regexp "
    "find-copies-harder find-copies=? find-object= find-renames=? first-parent fixed-strings "
    "follow format= full-diff full-history full-index function-context glob= graph grep= "
    "grep-reflog= histogram ignore-all-space ignore-blank-lines ignore-cr-at-eol "
    "ignore-missing ignore-space-at-eol ignore-space-change ignore-submodules=? "
    "indent-heuristic inter-hunk-context= invert-grep left-only left-right line-prefix= "
    "log-size mailmap max-count= max-parents= merge merge-base merges min-parents= minimal "
    "name-only name-status no-abbrev no-abbrev-commit no-color no-decorate no-ext-diff "
    "no-index no-mailmap no-merges no-notes no-patch no-prefix no-renames no-textconv "
    "no-walk=? not notes=? numstat oneline parents patch patch-with-raw patch-with-stat "
    "patience perl-regexp pickaxe-all pickaxe-regex pretty=? quiet raw regexp-ignore-case "
    "relative=? relative-date remotes=? reverse right-only root shortstat "
    "simplify-by-decoration since= skip= source sparse src-prefix= staged stat=? stat-width= "
    "stat-count= submodule=? summary tags=? text topo-order unified= until= use-mailmap "
    "walk-reflogs word-diff=? word-diff-regex= ws-error-highlight=",
    numeric=True,
    keep_order=True,  # --not and the like speak of what follows
    also=_known_values,
)

_LISTING = Options(
    short="n:",
    long="all date= format= max-count= name-only name-status no-color numstat oneline pretty=? "
    "relative-date since= stat=? until=",
    numeric=True,
)
"""Of commits, without diffs: these subcommands do not take the options against drivers."""

_SUBCOMMANDS: Mapping[str, Rule] = {
    "log": _HISTORY,
    "diff": _HISTORY,
    "show": _HISTORY,
    "rev-list": _HISTORY,
    "reflog": _Actions({"show": _LISTING}, bare=replace(_LISTING, max_operands=0)),
    "shortlog": Options(
        short="censw::", long="all author= committer email format= group= no-merges numbered "
        "since= summary until=",
    ),
    "status": Options(
        short="bszu::",
        long="ahead-behind branch column=? ignore-submodules=? ignored=? long no-renames "
        "porcelain=? renames short show-stash untracked-files=?",
        also=_known_values,
    ),
    "blame": Options(
        short="bceflnpstwC::L:M::",
        long="abbrev= color-by-age color-lines date= first-parent ignore-rev= incremental "
        "line-porcelain porcelain root score-debug show-email show-name show-number "
        "show-stats",
    ),
    "branch": Options(
        short="ariv",
        long="abbrev=? all color=? column=? contains=? format= ignore-case list merged=? "
        "no-abbrev no-color no-column no-contains=? no-merged=? points-at= remotes "
        "show-current sort= verbose",
        also=_lists_only,
    ),
    "tag": Options(
        short="iln::",
        long="color=? column=? contains=? format= ignore-case list merged=? no-contains=? "
        "no-merged=? points-at= sort=",
        also=_lists_only,
    ),
    "remote": _Actions(
        {"get-url": Options(long="all push")},
        bare=Options(short="v", long="verbose", max_operands=0),
    ),
    "stash": _Actions({"list": _LISTING, "show": _LISTING}, added=_NO_DRIVERS),
    "worktree": _Actions({"list": Options(short="vz", long="porcelain verbose")}),
    "config": Options(
        short="lzf:",
        long="bool bool-or-int default= expiry-date file= get get-all get-regexp get-urlmatch "
        "global includes int list local name-only null path show-origin show-scope system "
        "type= worktree",
        max_operands=2,
        also=_config_reads_only,
    ),
    "grep": Options(
        short="aEFGhHiIlLnopPqrvwWzA:B:C:e:f:m:",
        long="after-context= all-match and basic-regexp before-context= break cached color=? "
        "column context= count exclude-standard extended-regexp files-with-matches "
        "files-without-match fixed-strings full-name function-context heading ignore-case "
        "invert-match line-number max-count= max-depth= name-only no-color no-index not null "
        "only-matching or perl-regexp quiet recursive show-function text threads= untracked "
        "word-regexp",
        numeric=True,
        text_operands=1,
        text_unless=("-e", "-f"),
    ),
    "ls-files": Options(
        short="cdikmostuvzx:",
        long="abbrev=? cached deduplicate deleted directory eol error-unmatch exclude-standard "
        "exclude= format= full-name ignored killed modified no-empty-directory others "
        "stage unmerged",
    ),
    "ls-tree": Options(
        short="dlrtz",
        long="abbrev=? format= full-name full-tree long name-only name-status object-only",
    ),
    "rev-parse": Options(
        short="q",
        long="abbrev-ref=? absolute-git-dir all branches=? git-common-dir git-dir glob= "
        "is-bare-repository is-inside-git-dir is-inside-work-tree is-shallow-repository "
        "quiet remotes=? short=? show-cdup show-prefix show-superproject-working-tree "
        "show-toplevel symbolic symbolic-full-name tags=? verify",
        keep_order=True,
    ),
    "describe": Options(
        long="abbrev=? all always candidates= contains exact-match exclude= first-parent long "
        "match= tags"
    ),
    "cat-file": Options(short="epst"),
    "for-each-ref": Options(
        long="color=? contains=? count= format= ignore-case merged=? no-contains=? no-merged=? "
        "points-at= sort="
    ),
    "show-ref": Options(
        short="dqs::", long="abbrev=? dereference hash=? head heads quiet tags verify"
    ),
    "merge-base": Options(short="a", long="all independent is-ancestor octopus"),
    "name-rev": Options(long="all always name-only refs= tags"),
    "count-objects": Options(short="Hv", long="human-readable verbose"),
    "check-ignore": Options(short="nqvz", long="no-index non-matching quiet verbose"),
    "version": Options(long="build-options"),
}  # fmt: skip
_ADDED = {
    "log": _NO_DRIVERS,
    "diff": (*_NO_DRIVERS, _NO_SUBMODULES),
    "show": _NO_DRIVERS,
    "blame": (_NO_TEXTCONV,),
    "status": (_NO_SUBMODULES,),
}
_FILTERING = frozenset({"blame", "diff", "ls-files", "status"})
"""They compare files with what is recorded, by way of the filters that are set for them."""
_HAS_FILTERS = (
    "echo 'git: not run, because the settings of this repository name programs (filter.*) that "
    "it would start' >&2; false"
)
_CANNOT_TELL = (
    "echo 'git: not run, because it cannot list the settings of this repository; that takes "
    "git 2.26 or newer' >&2; false"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRule:
    """Of git's own options only ``-C``, those against pagers and locks, and ``--version``."""

    def check(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        at = _before_subcommand(words)
        if at == len(words):
            if at and words[-1].text == "--version":
                return words
            raise Refused("a subcommand is missing")
        name = words[at].text
        rule = _SUBCOMMANDS.get(name) if words[at].plain else None
        if rule is None:
            raise Refused(f"the subcommand '{name}' is not among those that only read")
        rest = rule.check(words[at + 1 :])
        return (*words[: at + 1], *_ADDED.get(name, ()), *rest)

    def guard(self, words: tuple[Word, ...]) -> tuple[str, str]:
        """Shell text around a command of these words, by which it starts no filter.

        No option and no setting turns off filters that a repository's own configuration
        names. So the command runs only if there are none.
        """
        at = _before_subcommand(words)
        if at == len(words) or words[at].text not in _FILTERING:
            return "", ""
        git = " ".join(["git", *(word.render() for word in words[:at])])
        asked = f"{git} config --show-scope --get-regexp '^filter[.].*[.](clean|process)$' 2>&1"
        named = "*local?filter.*|*worktree?filter.*"
        before = f'case $({asked}; echo "=$?") in {named}) {_HAS_FILTERS} ;; *=[01]) '
        return before, f" ;; *) {_CANNOT_TELL} ;; esac"


def _before_subcommand(words: tuple[Word, ...]) -> int:
    """How many words stand before the subcommand."""
    at = 0
    while at < len(words) and words[at].text.startswith("-"):
        option = words[at].text
        if option == "-C":
            at += 1
            if at < len(words) and not words[at].plain:
                raise Refused("the directory after -C must be written plainly")
        elif option not in ("--no-pager", "-P", "--no-optional-locks", "--version"):
            raise Refused(f"the option {option} is not allowed before the subcommand")
        at += 1
    return min(at, len(words))
