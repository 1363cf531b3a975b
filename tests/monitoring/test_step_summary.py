"""How GitHub Actions shows a run: a page of Markdown and a few annotations, as values."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from fakes import NOW, days
from hypothesis import given
from hypothesis import strategies as st

from whatsapp_tokens.monitoring.github_actions import MAX_ANNOTATIONS, MAX_SUMMARY_BYTES, Annotation, Level
from whatsapp_tokens.monitoring.step_summary import escape, markdown, notes, shortfalls
from whatsapp_tokens.redaction import Secret, one_line, redact
from whatsapp_tokens.results import Aborted, Failed, Reason, RunResult, Tally


def failure(id_=12, name="Bakery North", reason=Reason.RECONNECT_REQUIRED, detail="the password was changed"):
    return Failed(id=id_, name=name, reason=reason, detail=detail, expires_at=NOW + days(9.5))


def ending(*failures, code=0, stopped=None, failed=None, **fields):
    tally = Tally(candidates=9, due=4, renewed=2, failed=len(failures) if failed is None else failed)
    return replace(
        RunResult(code, tally, failures, stopped, NOW - days(0.001), NOW),
        **fields,
    )


QUIET = ending()


def test_a_quiet_run_is_a_line_and_its_counts():
    assert markdown(QUIET) == (
        "## WhatsApp tokens: nothing failed\n\n"
        "| candidates | due | renewed | failed | known | skipped | waiting | left |\n"
        "|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        "| 9 | 4 | 2 | 0 | 0 | 0 | 0 | 0 |\n\n"
    )


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://ops.example/wa.html", "[Status page](<https://ops.example/wa.html>)"),
        ("https://x.example/a(b)?c=[d]&e=<f>|", "[Status page](<https://x.example/a(b)?c=[d]&e=%3Cf%3E%7C>)"),
    ],
)
def test_the_published_page_is_linked(url, link):
    assert markdown(ending(status_page_url=url)) == f"{markdown(QUIET)}{link}\n\n"


def test_failed_channels_are_a_table_with_cause_end_and_advice():
    lines = markdown(ending(failure(), code=1)).splitlines()
    assert (lines[0], lines[6:]) == (
        "## WhatsApp tokens: 1 failed",
        [
            "| failed | cause | expires | to do |",
            "|---|---|---|---|",
            (
                r"| Bakery North \(12\) | reconnect\_required\, the password was changed "
                r"| stopped working | the customer must connect WhatsApp again |"
            ),
            "",
        ],
    )


def test_failures_that_are_not_shown_are_counted():
    assert "| … and 312 more | | | |" in markdown(ending(failure(), failed=313, code=1))


def test_a_stopped_run_says_why_and_what_to_do():
    page = markdown(ending(code=3, stopped=Aborted("rate_limited", "Meta said *wait*")))
    assert page.startswith("## WhatsApp tokens: stopped early\n")
    assert (
        "**Stopped: rate\\_limited**, Meta said \\*wait\\*  \n"
        "To do: nothing\\; the next run does the rest\\; if this happens again\\, run at another hour.\n"
    ) in page


@pytest.mark.parametrize(
    ("given_ending", "headline"),
    [
        (ending(code=2, stopped=Aborted("configuration", "x")), "the configuration is wrong"),
        (ending(code=1, undelivered=True), "an alert could not be delivered"),
        (ending(code=1, unwritten=("x",)), "a report could not be written"),
        (ending(code=1, unwritten=("x",), is_dry=True), "a report could not be written"),
        (ending(code=1, undelivered=True, unwritten=("x",)), "an alert could not be delivered"),
        (ending(code=143), "interrupted"),
        (ending(is_dry=True), "a dry run"),
    ],
)
def test_the_headline_says_how_it_ended(given_ending, headline):
    assert markdown(given_ending).splitlines()[0] == f"## WhatsApp tokens: {headline}"


def test_a_known_failure_is_in_the_page_but_no_annotation_and_no_headline():
    known = replace(failure(), is_news=False)
    of = ending(known)
    of.tally.known = 1
    page = markdown(of).splitlines()
    assert (page[0], "reconnect\\_required\\, the password was changed (known) |" in page[8], notes(of)) == (
        "## WhatsApp tokens: nothing new failed",
        True,
        [],
    )


def test_only_news_is_annotated_and_counted_among_the_annotations():
    known = replace(failure(), is_news=False)
    of = ending(failure(13, "Kiosk"), known, failed=40, code=1)
    of.tally.known = 20
    assert [note.title for note in notes(of)] == ["Kiosk (13)", "… and 19 more"]
    assert markdown(of).startswith("## WhatsApp tokens: 40 failed\n")


UNWRITTEN = (
    "--report a|b.html could not be written: No such file",
    "--report c.json could not be written: x",
)


def test_each_report_that_is_missing_is_named():
    page = markdown(ending(code=1, unwritten=UNWRITTEN))
    assert page.splitlines()[6:] == [
        r"**A report could not be written**: \-\-report a\|b\.html could not be written\: No such file  ",
        r"**A report could not be written**: \-\-report c\.json could not be written\: x  ",
        "",
    ]


def test_what_went_wrong_besides_the_work_is_a_line_each():
    assert [shortfalls(one) for one in (QUIET, ending(code=1, undelivered=True, unwritten=UNWRITTEN))] == [
        [],
        [
            "Problem: an alert could not be delivered: see the log",
            "Problem: --report a|b.html could not be written: No such file",
            "Problem: --report c.json could not be written: x",
        ],
    ]


def test_a_dry_run_says_that_it_was_one():
    assert "Dry run: nothing was written, and Meta was not asked." in markdown(ending(is_dry=True))


NAMES = (
    "<script>alert(1)</script>",
    "*bold* _x_ `code`",
    "<!channel>",
    "::error::x",
    "two\n\n# lines",
    "a | b \\| c",
    "[x](javascript:alert(1)) ![y](https://evil.example/p.png) www.evil.example",
    "\u202eright to left\u202c שלום",
    "n" * 300,
    "&lt;b&gt; &#64;all",
)


@pytest.mark.parametrize("name", NAMES)
def test_no_name_is_markup_or_leaves_its_cell(name):
    row = markdown(ending(failure(name=name), code=1)).splitlines()[8]
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", row)  # an escaped mark is only itself
    assert (bare.count("|"), re.findall(r"[<>*_`#\[\]&!@\u202e]", bare)) == (5, [])


@given(st.text())
def test_markdown_shows_a_text_as_it_is(text):
    shown = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", escape(text))
    assert shown == redact(one_line(text))


def test_the_page_never_grows_beyond_what_github_shows():
    page = markdown(ending(*[failure(name="|" * 300, detail="|" * 20_000)] * 100, code=1))
    assert len(page.encode()) < MAX_SUMMARY_BYTES
    assert re.search(r"\| … and \d+ more \| \| \| \|\n", page)


def test_no_secret_is_on_the_page_however_it_would_be_escaped():
    token = Secret("opaque-token_with|marks")
    page = markdown(
        ending(
            failure(name=f"a {token.reveal()}", detail=f"b {token.reveal()}"),
            code=3,
            stopped=Aborted("rate_limited", token.reveal()),
        )
    )
    assert ("opaque" in page, "marks" in page) == (False, False)


# -- annotations


def test_a_quiet_run_needs_no_annotation():
    assert notes(QUIET) == []


def test_each_failed_channel_is_an_error_or_a_warning_if_it_may_pass():
    found = notes(ending(failure(), failure(13, "Gym", Reason.UNAVAILABLE, "HTTP 503"), code=1))
    assert found == [
        Annotation(
            Level.ERROR,
            "Bakery North (12)",
            "reconnect_required, the password was changed\nTo do: the customer must connect WhatsApp again",
        ),
        Annotation(
            Level.WARNING,
            "Gym (13)",
            "unavailable, HTTP 503\nTo do: nothing yet; the next run tries again",
        ),
    ]


def test_what_concerns_the_whole_run_comes_first():
    run = ending(
        failure(), code=3, stopped=Aborted("rate_limited", "x"), undelivered=True, unwritten=UNWRITTEN
    )
    run.tally.waiting = 2
    assert [(note.level, note.title) for note in notes(run)] == [
        (Level.ERROR, "WhatsApp tokens: stopped early"),
        (Level.ERROR, "An alert could not be delivered"),
        (Level.ERROR, "A report could not be written"),
        (Level.WARNING, "2 WhatsApp lines wait for a reconnect"),
        (Level.ERROR, "Bakery North (12)"),
    ]


@pytest.mark.parametrize(
    ("failures", "failed", "last"),
    [
        (10, 10, "Line (9)"),
        (11, 11, "… and 2 more"),
        (10, 11, "… and 2 more"),
        (100, 312, "… and 303 more"),
        (9, 12, "… and 3 more"),
    ],
)
def test_there_are_at_most_as_many_as_github_shows(failures, failed, last):
    found = notes(ending(*(failure(id_, "Line") for id_ in range(failures)), failed=failed, code=1))
    assert (len(found), found[-1].title) == (MAX_ANNOTATIONS, last)


def test_the_tally_counts_why_channels_failed():
    tally = Tally()
    for reason in (Reason.UNAVAILABLE, Reason.UNAVAILABLE, Reason.NOT_EXTENDED):
        tally.add(failure(reason=reason))
    assert tally.causes == Counter({Reason.UNAVAILABLE: 2, Reason.NOT_EXTENDED: 1})
