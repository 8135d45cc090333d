"""The programs that only read, and the options with which they do.

An option is listed when it neither writes a file, nor starts a program, nor changes
the system, in the GNU and the BusyBox program. What is not listed is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from paddock.runtime.permissions.restricted_shell.git import GitRule
from paddock.runtime.permissions.restricted_shell.rules import (
    AnyArguments,
    Arguments,
    Options,
    Rule,
)
from paddock.runtime.permissions.restricted_shell.syntax import EXIT_CODE, Refused, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from paddock.runtime.permissions.restricted_shell.syntax import Word

__all__ = ["RULES"]

_NUMBER = re.compile(r"-[0-9]+")

_SED_REGEX = r"/(?:[^/\[\]\\\n]|\\[^\n]|\[\^?[^/\[\]\\\n]+\])+/"
_SED_ADDRESS = rf"(?:[0-9]+(?:~[0-9]+)?|\$|{_SED_REGEX}I?)"
_SED_COMMAND = rf" *(?:{_SED_ADDRESS} *(?:, *(?:{_SED_ADDRESS}|[+~][0-9]+) *)?)?!? *[pdq=] *"
_SED_SCRIPT = re.compile(rf"{_SED_COMMAND}(?:[;\n]{_SED_COMMAND})*;? *")


def _only_shows_lines(arguments: Arguments) -> None:
    """sed can write files and run programs from within its script."""
    if arguments.varying:
        raise Refused("a script with a variable is not allowed: its value could be a command")
    scripts = arguments.values("-e", "--expression") or list(arguments.operands[:1])
    if not scripts or not all(_SED_SCRIPT.fullmatch(script) for script in scripts):
        raise Refused("only scripts of addresses and the commands p, d, q and = are allowed")


def _only_shows_time(arguments: Arguments) -> None:
    if not all(operand.startswith("+") for operand in arguments.operands):
        raise Refused("setting the clock is not allowed")


def _only_looks_up(arguments: Arguments) -> None:
    if not arguments.has("-v", "-V"):
        raise Refused("only 'command -v NAME' is allowed")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test:
    """``test`` and ``[``: only operators that look at files, text and numbers.

    Some shells evaluate the operand of others (``-v``), and numbers, as an expression with
    command substitution. So what is compared as a number stands in the command line itself.
    """

    def check(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        if any(word.text in _NUMERIC for word in words):
            changing = [word.text for word in words if not _stands_there(word)]
            if changing:
                raise Refused(f"{changing[0]} is not allowed beside an operator for numbers")
        for word in words:
            operator = word.text.startswith("-") and not _NUMBER.fullmatch(word.text)
            if operator and word.text not in _TEST_OPERATORS:
                raise Refused(f"the operator {word.text} is not allowed")
            if "`" in word.text or "$(" in word.text:
                raise Refused("command substitution is not allowed, not even as text")
        return words


def _stands_there(word: Word) -> bool:
    return not word.home and all(isinstance(part, Text) or part == EXIT_CODE for part in word.parts)


_NUMERIC = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-t"})
_TEST_OPERATORS = frozenset({
    "-a", "-b", "-c", "-d", "-e", "-ef", "-eq", "-f", "-g", "-ge", "-gt", "-h", "-k", "-L",
    "-le", "-lt", "-n", "-ne", "-nt", "-o", "-ot", "-p", "-r", "-s", "-S", "-t", "-u", "-w",
    "-x", "-z",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Find:
    """find: start points, then tests and printing; nothing that runs, deletes or writes."""

    def check(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        checked: list[Word] = []
        in_expression = False
        value_of: str | None = None
        for word in words:
            text = word.text
            if value_of is not None:
                if text.startswith("-") and not _FIND_DASH_VALUE.fullmatch(text):
                    raise Refused(f"the value of {value_of} begins with a dash")
                value_of = None
            elif text in _FIND_VALUES or _FIND_NEWER.fullmatch(text):
                in_expression, value_of = True, text
            elif text in _FIND_FLAGS:
                in_expression = in_expression or text not in ("-L", "-H", "-P")
            elif text.startswith("-"):
                raise Refused(f"{text} is not allowed")
            elif in_expression:
                raise Refused(f"'{text}' is out of place; quote patterns")
            checked.append(word.literal() if in_expression else word)
        if value_of is not None:
            raise Refused(f"{value_of} needs a value")
        return tuple(checked)


_FIND_FLAGS = frozenset({
    "!", "(", ")", ",", "-H", "-L", "-P", "-a", "-and", "-daystart", "-depth", "-empty",
    "-executable", "-false", "-follow", "-ls", "-mount", "-nogroup", "-noleaf", "-not",
    "-nouser", "-o", "-or", "-print", "-print0", "-prune", "-quit", "-readable", "-true",
    "-writable", "-xdev",
})  # fmt: skip
_FIND_VALUES = frozenset({
    "-amin", "-anewer", "-atime", "-cmin", "-cnewer", "-ctime", "-fstype", "-gid", "-group",
    "-ilname", "-iname", "-inum", "-ipath", "-iregex", "-iwholename", "-links", "-lname",
    "-maxdepth", "-mindepth", "-mmin", "-mtime", "-name", "-newer", "-path", "-perm", "-printf",
    "-regex", "-regextype", "-samefile", "-size", "-type", "-uid", "-used", "-user",
    "-wholename", "-xtype",
})  # fmt: skip
_FIND_NEWER = re.compile(r"-newer[aBcm][aBcmt]")
_FIND_DASH_VALUE = re.compile(r"-(?:[0-9]+[bcwkMG]?|[ugoa]*[+=][rwxst]+)")

_GREP = Options(
    short="EFGPabchHiIlLnoqrRsTUvVwxyzZe:f:A:B:C:m:d:D:",
    long="extended-regexp fixed-strings basic-regexp perl-regexp text byte-offset count "
    "with-filename no-filename ignore-case no-ignore-case files-with-matches "
    "files-without-match line-number only-matching quiet silent recursive "
    "dereference-recursive no-messages initial-tab invert-match version word-regexp "
    "line-regexp null-data null line-buffered help regexp= file= after-context= "
    "before-context= context= max-count= directories= devices= include= exclude= "
    "exclude-dir= exclude-from= binary-files= label= color=? colour=?",
    numeric=True,
    text_operands=1,
    text_unless=("-e", "-f", "--regexp", "--file"),
)
_RG = Options(
    short="inwvclLoxFNHIhPsSUuapV0e:f:g:t:T:A:B:C:m:M:E:r:d:j:",
    long="files hidden no-hidden no-ignore no-ignore-vcs no-ignore-parent no-ignore-global "
    "ignore-case smart-case case-sensitive word-regexp line-regexp fixed-strings "
    "invert-match count count-matches files-with-matches files-without-match only-matching "
    "line-number no-line-number with-filename no-filename heading no-heading column vimgrep "
    "json stats multiline multiline-dotall pcre2 passthru trim text binary follow "
    "one-file-system null null-data quiet no-messages no-config crlf pretty type-list "
    "version help unrestricted sort-files line-buffered no-unicode no-mmap regexp= file= "
    "glob= iglob= type= type-not= after-context= before-context= context= max-count= "
    "max-columns= max-columns-preview max-depth= max-filesize= encoding= replace= threads= "
    "sort= sortr= color= colors= engine= context-separator= ignore-file= path-separator= "
    "field-match-separator=",
    text_operands=1,
    text_unless=("-e", "-f", "--regexp", "--file", "--files"),
)
_CHECKSUM = Options(
    short="bctwz", long="binary check text zero tag quiet status strict warn ignore-missing"
)

RULES: Final[Mapping[str, Rule]] = {
    # files and directories
    "ls": Options(
        short="aAbBcCdfFgGhHiklLmnNopqQrRsStuUvxXZ1I:w:T:",
        long="all almost-all author escape block-size= ignore-backups color=? directory "
        "dereference classify=? file-type format= full-time group-directories-first no-group "
        "human-readable si hide= indicator-style= inode ignore= kibibytes numeric-uid-gid "
        "literal hide-control-chars show-control-chars quote-name quoting-style= reverse "
        "recursive size sort= time= time-style= tabsize= width= context zero version help",
    ),
    "find": _Find(),
    "tree": Options(
        short="adflxqNQpsughDFvtcUrACSJXniL:P:I:",
        long="dirsfirst noreport matchfirst ignore-case prune gitignore du si inodes device "
        "nolinks version help",
        bundled_values=False,
    ),
    "stat": Options(
        short="Lftc:", long="dereference file-system terse format= printf= version help"
    ),
    "file": Options(
        short="bhikLN0rv",
        long="brief mime mime-type mime-encoding dereference no-dereference keep-going no-pad "
        "print0 raw extension version help",
    ),
    "du": Options(
        short="0abcDhHklLmPsSxd:t:B:X:",
        long="null all apparent-size bytes total dereference dereference-args human-readable si "
        "count-links no-dereference summarize separate-dirs one-file-system max-depth= "
        "threshold= block-size= exclude= exclude-from= time=? time-style= inodes version "
        "help",
    ),
    "df": Options(
        short="ahHiklPTvB:t:x:",
        long="all human-readable si inodes local portability print-type total output=? "
        "block-size= type= exclude-type= version help",
    ),
    "realpath": Options(
        short="emLPqsz",
        long="canonicalize-existing canonicalize-missing logical physical quiet strip no-symlinks "
        "zero relative-to= relative-base=",
    ),
    "readlink": Options(
        short="femnqsvz",
        long="canonicalize canonicalize-existing canonicalize-missing no-newline zero",
    ),
    "basename": Options(short="azs:", long="multiple suffix= zero"),
    "dirname": Options(short="z", long="zero"),
    "pwd": Options(short="LP", max_operands=0),
    "cd": Options(short="LP", max_operands=1),
    # text
    "cat": Options(
        short="AbeEnstTuv",
        long="show-all number-nonblank show-ends number squeeze-blank show-tabs show-nonprinting",
    ),
    "tac": Options(short="brs:", long="before regex separator="),
    "nl": Options(short="pb:d:f:h:i:l:n:s:v:w:", long="body-numbering= number-width="),
    "head": Options(
        short="qvzn:c:", long="lines= bytes= quiet silent verbose zero-terminated", numeric=True
    ),
    "tail": Options(
        short="qvzn:c:", long="lines= bytes= quiet silent verbose zero-terminated", numeric=True
    ),
    "wc": Options(short="cmlLw", long="bytes chars lines max-line-length words"),
    "grep": _GREP,
    "egrep": _GREP,
    "fgrep": _GREP,
    "rg": _RG,
    "sort": Options(
        short="bcCdfghiMmnRrsuVzk:t:S:",
        long="ignore-leading-blanks dictionary-order ignore-case general-numeric-sort "
        "ignore-nonprinting month-sort human-numeric-sort numeric-sort random-sort reverse "
        "sort= version-sort check=? merge key= stable buffer-size= field-separator= unique "
        "zero-terminated",
    ),
    "uniq": Options(
        short="cdDiuzf:s:w:",
        long="count repeated all-repeated=? unique ignore-case zero-terminated group=? "
        "skip-fields= skip-chars= check-chars=",
        numeric=True,
        max_operands=1,
    ),
    "cut": Options(
        short="nszb:c:d:f:",
        long="bytes= characters= delimiter= fields= complement only-delimited output-delimiter= "
        "zero-terminated",
    ),
    "tr": Options(
        short="cCdst",
        long="complement delete squeeze-repeats truncate-set1",
        max_operands=2,
        text_operands=2,
    ),
    "paste": Options(short="szd:", long="delimiters= serial zero-terminated"),
    "join": Options(short="iza:e:j:o:t:v:1:2:", long="ignore-case check-order header"),
    "comm": Options(short="123z", long="check-order nocheck-order total output-delimiter="),
    "fold": Options(short="bsw:", long="bytes spaces width="),
    "expand": Options(short="it:", long="initial tabs="),
    "rev": Options(),
    "od": Options(short="abcdfhilosvxA:j:N:S:t:w::", long="address-radix= skip-bytes= read-bytes="),
    "hexdump": Options(short="bcCdovxe:n:s:"),
    "strings": Options(short="afown:t:e:", long="all print-file-name bytes= radix= encoding="),
    "diff": Options(
        short="abBcdeEiNpqrstTuwyC:U:W:I:x:F:",
        long="normal brief report-identical-files context=? unified=? ed side-by-side width= "
        "left-column suppress-common-lines show-c-function show-function-line= label= "
        "expand-tabs initial-tab recursive no-dereference new-file unidirectional-new-file "
        "exclude= ignore-file-name-case ignore-case ignore-tab-expansion "
        "ignore-trailing-space ignore-space-change ignore-all-space ignore-blank-lines "
        "ignore-matching-lines= text strip-trailing-cr minimal speed-large-files color=?",
    ),
    "cmp": Options(short="bli:n:s", long="print-bytes ignore-initial= verbose bytes= quiet silent"),
    "sed": Options(
        short="nErsuze:",
        long="quiet silent regexp-extended expression= separate unbuffered null-data",
        text_operands=1,
        text_unless=("-e", "--expression"),
        also=_only_shows_lines,
    ),
    "jq": Options(
        short="acCeMnrjsS",
        long="compact-output color-output monochrome-output exit-status null-input raw-input "
        "raw-output join-output slurp sort-keys tab",
        text_operands=1,
    ),
    "md5sum": _CHECKSUM,
    "sha1sum": _CHECKSUM,
    "sha256sum": _CHECKSUM,
    "sha512sum": _CHECKSUM,
    "cksum": Options(),
    # the shell itself, and the system
    "echo": AnyArguments(),
    "true": AnyArguments(),
    "false": AnyArguments(),
    ":": AnyArguments(),
    "printf": Options(text_operands=1),
    "test": _Test(),
    "[": _Test(),
    "command": Options(short="vV", also=_only_looks_up),
    "type": Options(short="at"),
    "which": Options(short="a", long="all"),
    "date": Options(
        short="uRd:r:I::",
        long="utc universal date= reference= rfc-email iso-8601=? rfc-3339=",
        text_operands=1,
        also=_only_shows_time,
    ),
    "seq": Options(short="wf:s:", long="equal-width format= separator=", numeric=True),
    "env": Options(short="0", long="null", max_operands=0),
    "printenv": Options(short="0", long="null"),
    "uname": Options(
        short="asnrvmpio",
        long="all kernel-name nodename kernel-release kernel-version machine processor "
        "hardware-platform operating-system",
        max_operands=0,
    ),
    "hostname": Options(
        short="fsiId", long="fqdn short ip-address all-ip-addresses", max_operands=0
    ),
    "ps": AnyArguments(),
    "id": Options(short="agGnruzZ", long="group groups name real user zero"),
    "whoami": Options(max_operands=0),
    "groups": Options(),
    "nproc": Options(long="all ignore=", max_operands=0),
    "uptime": Options(short="ps", long="pretty since", max_operands=0),
    "free": Options(short="bkmghltvw", long="human mega giga total wide", max_operands=0),
    "git": GitRule(),
}  # fmt: skip
