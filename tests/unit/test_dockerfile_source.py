"""What is read from a Dockerfile: instructions, the images that it takes, and what it needs."""

from __future__ import annotations

import pytest

from paddock.image.instructions import expand, read_source
from paddock.image.needs import images_of, needs_of


def read(text: str) -> list[tuple[int, str, str]]:
    return [(each.line, each.keyword, each.text) for each in read_source(text).instructions]


def test_continued_lines_are_joined_without_comments_and_empty_lines() -> None:
    text = "# a\n\nFROM a \\\n  # no\n\n\\\n AS b\nrun x\\ \n y\\z\n"
    assert read(text) == [(3, "FROM", "a  AS b"), (8, "RUN", "x y\\z")]


def test_the_escape_character_can_be_another() -> None:
    text = "# escape=`\nFROM a\nRUN x `\n y\\\nRUN z"
    assert read(text) == [(2, "FROM", "a"), (3, "RUN", "x  y\\"), (5, "RUN", "z")]


def test_directives_count_only_at_the_top() -> None:
    source = read_source("\ufeff# escape=\\\n#syntax = docker/dockerfile:1.4 \nFROM a\n# syntax=b")
    assert (source.syntax, source.syntax_line) == ("docker/dockerfile:1.4", 2)
    assert read_source("\n# syntax=a\nFROM a").syntax is None


def test_the_lines_of_a_heredoc_are_no_instructions() -> None:
    text = "COPY <<A <<-'B' /x\nFROM no\nA\n\tRUN no\n\tB\nRUN y <<\"E\"\nE\nUSER z"
    found = read_source(text).instructions
    assert [(each.keyword, each.line, each.heredocs) for each in found] == [
        ("COPY", 1, ("A", "B")),
        ("RUN", 6, ("E",)),
        ("USER", 8, ()),
    ]


@pytest.mark.parametrize(
    ("word", "end"),
    [("<<\\EOF", "EOF"), ("<<'E F'", "E F"), ('3<<E"O"F', "EOF"), ("<<-EOF", "\tEOF")],
)
def test_the_name_of_a_heredoc_is_read_as_a_shell_reads_it(word: str, end: str) -> None:
    run, user = read_source(f"RUN cat {word}\nCOPY --parents a b\n{end}\nUSER a\n").instructions
    assert (run.heredocs, user.keyword, user.line) == ((end.strip("\t"),), "USER", 4)


def test_only_a_heredoc_with_a_dash_ends_at_an_indented_line() -> None:
    run, user = read_source("RUN <<EOF\n\tEOF\nCOPY --parents a b\nEOF\nUSER a\n").instructions
    assert (run.heredocs, user.line) == (("EOF",), 5)


@pytest.mark.parametrize(
    "run",
    [
        "echo $((1<<3))",
        "echo $((1 << 3))",
        "x=$((1 <<3))",
        "echo a<<EOF",
        "cat <<< EOF",
        "echo '<<EOF'",
        '["cat", "<<EOF"]',
        "cat <<NEVER",
    ],
)
def test_what_only_looks_like_a_heredoc_is_none(run: str) -> None:
    first, second, _ = read_source(f"RUN {run}\nUSER a\nEOF x\n").instructions
    assert (first.heredocs, second.keyword) == ((), "USER")


def test_flags_are_apart_from_the_text_and_may_come_again() -> None:
    (run, copy) = read_source(
        "RUN --mount=type=cache,target=/a --mount=type=bind echo --mount=no\n"
        "ONBUILD COPY --link a b"
    ).instructions
    assert run.flags == (("mount", "type=cache,target=/a"), ("mount", "type=bind"))
    assert run.text == "echo --mount=no"
    assert (copy.keyword, copy.onbuild, copy.flags) == ("COPY", True, (("link", ""),))


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$A-${A}", "a-a"),
        ("${B:-x$A}", "xa"),
        ("${E-x}${E:-y}", "y"),
        ("${A:+z}${B:+z}", "z"),
        ("\\$A", "$A"),
        ("\"$A\":'1'", "a:1"),
        ("$B", ""),
    ],
)
def test_variables_are_replaced_as_builders_do_it(text: str, expanded: str) -> None:
    assert expand(text, {"A": "a", "E": ""}) == expanded


def test_images_are_found_with_arguments_and_without_stages() -> None:
    text = """
        ARG TAG=base
        ARG WHOLE=paddock:${TAG}
        ARG OTHER
        FROM --platform=linux/amd64 $WHOLE AS One
        ARG TAG=no
        COPY --from=one /a /b
        COPY --from=0 /a /b
        RUN --mount=type=bind,from=busybox:1,source=/a --mount=from=one,target=/x true
        FROM reg.example/x:${TAG:-y}
        COPY --from=reg.example/z /a /b
        ONBUILD COPY --from=reg.example/later /a /b
        FROM ${OTHER}
        FROM scratch
        FROM one
    """
    assert images_of(read_source(text), {}) == [
        "paddock:base", "busybox:1", "reg.example/x:base", "reg.example/z",
    ]  # fmt: skip
    found = images_of(read_source(text), {"TAG": "agent", "OTHER": "debian", "NO": "x"})
    assert found[0] == "paddock:agent"
    assert found[-1] == "debian"


@pytest.mark.parametrize(
    ("line", "feature", "version"),
    [
        ("RUN --mount=type=cache,target=/x true", "RUN --mount", (20, 10)),
        ("COPY --chmod=755 a b", "COPY --chmod", (20, 10)),
        ("FROM --platform=$BUILDPLATFORM a", "FROM --platform", (20, 10)),
        ("ARG TARGETARCH", "ARG TARGETARCH", (20, 10)),
        ("RUN <<EOF\ntrue\nEOF", "RUN with a heredoc (<<EOF)", (23, 0)),
        ("COPY <<EOF /x\ntrue\nEOF", "COPY with a heredoc (<<EOF)", (23, 0)),
        ("COPY --link a b", "COPY --link", (23, 0)),
        ("ADD --checksum=sha256:0 https://a/b c", "ADD --checksum", (25, 0)),
        ("ADD https://example.org/a.git#main /a", "ADD of a Git repository", (25, 0)),
        ("ENV A=${B%/*}", "${B%/*} in ENV", (26, 0)),
        ("COPY --exclude=*.md . /x", "COPY --exclude", (29, 0)),
        ("ONBUILD COPY --parents a b", "COPY --parents", (29, 1)),
        ("RUN --security=insecure true", "RUN --security", (29, 1)),
    ],
)
def test_a_feature_is_found_with_its_line_and_the_engine_that_has_it(
    line: str, feature: str, version: tuple[int, int]
) -> None:
    (need,) = needs_of(read_source(f"FROM a\n\n{line}\n"))
    assert (need.line, need.feature, need.engine) == (3, feature, version)
    assert str(need) == (
        f"line 3: {feature} needs BuildKit of Docker Engine {version[0]}.{version[1]} or newer"
    )


def test_a_secret_as_a_variable_needs_a_newer_engine_than_one_as_a_file() -> None:
    text = "FROM a\nRUN --mount=type=secret,id=b --mount=type=secret,id=c,env=C true\n"
    needs = needs_of(read_source(text))
    assert [each.engine for each in needs] == [(20, 10), (27, 3)]
    assert needs[1].feature == "RUN --mount=type=secret with env="
    text = "FROM a\nRUN --mount=type=cache,target=/env=x,id=env true\n"
    assert [each.engine for each in needs_of(read_source(text))] == [(20, 10)]


def test_an_ordinary_dockerfile_needs_nothing() -> None:
    text = (
        "ARG V=1\nFROM a:${V} AS b\nRUN echo ${X%y} | tee /z\nCOPY --chown=a --from=b x y\n"
        "ADD https://example.org/a.tar.gz /a\nHEALTHCHECK --interval=5s CMD true\n"
    )
    assert needs_of(read_source(text)) == []
