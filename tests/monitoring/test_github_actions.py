"""Commands for GitHub's runner, read back by the rules that the runner reads them by."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whatsapp_tokens.monitoring.github_actions import (
    MAX_SUMMARY_BYTES,
    Annotation,
    Level,
    SummaryFull,
    annotate,
    append_summary,
)
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.reports.console import harmless, harmless_json, is_github


def unescape(text, marks):
    for mark in (*marks, "%"):
        text = text.replace(f"%{ord(mark):02X}", mark)
    return text


def parse(line):
    """A line as the runner takes it apart (src/Runner.Common/ActionCommand.cs in actions/runner)."""
    line = line.lstrip()
    if not line.startswith("::") or "::" not in line[2:]:
        return None
    head, _, data = line[2:].partition("::")
    name, _, properties = head.partition(" ")
    pairs = (one.partition("=") for one in properties.split(",") if one)
    return name, {key: unescape(value, "\r\n:,") for key, _, value in pairs}, unescape(data, "\r\n")


def in_old_form(line):
    """Whether the runner finds a command of the old form, which may stand anywhere."""
    return "##[" in line and "]" in line.partition("##[")[2]


HOSTILE = st.text("ab:,=%\r\n #[]::;é\u202e25AD0", max_size=40)


def test_an_annotation_is_one_line_as_github_documents_it():
    annotation = Annotation(Level.ERROR, "Bakery: North, 100% (12)", "failed: 100%\nTo do: nothing, yet")
    assert annotate(annotation) == (
        "::error title=Bakery%3A North%2C 100%25 (12)::failed: 100%25%0ATo do: nothing, yet"
    )


@given(st.sampled_from(Level), HOSTILE.filter(lambda text: "=" not in text[:1]), HOSTILE)
def test_the_runner_reads_every_annotation_as_it_was_meant(level, title, message):
    line = annotate(Annotation(level, title, message))
    assert (parse(line), line.splitlines()) == ((level.value, {"title": title}, message), [line])


def test_no_secret_is_annotated_however_it_would_be_escaped():
    token = Secret("opaque%token:with,marks")
    line = annotate(Annotation(Level.WARNING, f"a {token.reveal()}", f"b {token.reveal()}"))
    assert line == "::warning title=a ***::b ***"


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("renewed  Bakery (1): ends", "renewed  Bakery (1): ends"),
        ("::error::x (1)", ": :error::x (1)"),
        ("  ::add-mask::a (1): undecryptable", "  : :add-mask::a (1): undecryptable"),
        ("\t\u2003::stop-commands::x", "\t\u2003: :stop-commands::x"),
        (":::x::", ": ::x::"),
        ("failed   ##[error]x", "failed   ## [error]x"),
        ("failed   ###[error]x", "failed   ### [error]x"),
        ("time 10:: 20", "time 10:: 20"),
    ],
)
def test_no_line_of_output_is_a_command_by_accident(line, printed):
    assert harmless(line) == printed


@given(st.text(": #[]error\u2003\u00a0\t", max_size=30))
def test_no_line_at_all_is_a_command(line):
    printed = harmless(line)
    assert (parse(printed), in_old_form(printed)) == (None, False)


@pytest.mark.parametrize(
    ("environment", "answer"),
    [({"GITHUB_ACTIONS": "true"}, True), ({"GITHUB_ACTIONS": "false"}, False), ({}, False)],
)
def test_a_runner_says_that_it_is_one(environment, answer):
    assert is_github(environment) is answer


def test_a_summary_is_added_to_what_other_steps_wrote(tmp_path):
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    append_summary(path, "é\n")
    assert path.read_text(encoding="utf-8") == "before\né\n"


def test_a_summary_that_would_be_too_large_is_left_out(tmp_path):
    path = tmp_path / "summary.md"
    path.write_bytes(b"x" * (MAX_SUMMARY_BYTES - 1))
    append_summary(path, "y")
    with pytest.raises(SummaryFull):
        append_summary(path, "z")
    assert path.stat().st_size == MAX_SUMMARY_BYTES


@pytest.mark.parametrize("name", ["##[error]x", "###[error]x", "a ##[b]##[c]", r"\##[x]", '"##[x]"', "# #["])
def test_a_document_is_no_command_and_keeps_its_values(name):
    document = harmless_json(json.dumps({"name": name}))
    assert ("##[" in document, json.loads(document)) == (False, {"name": name})
