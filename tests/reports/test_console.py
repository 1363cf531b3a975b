"""What a run shows, on terminals, in files and in broken pipes."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from whatsapp_tokens.commands.result import Finding, Level
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.reports import json_document as module
from whatsapp_tokens.reports.console import COLOURS, SHOW_CURSOR, Console
from whatsapp_tokens.reports.text import TABLE_HEAD, outcome_line
from whatsapp_tokens.results import Due, DueReason, Failed, Reason, Renewed, Skipped

ROOT = Path(__file__).resolve().parent.parent.parent
NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=60)
VALUE = "correct-horse_battery|staple"

RENEWED = Renewed(id=1, name="North", expires_at=LATER)
FAILED = Failed(id=2, name="South", expires_at=LATER, reason=Reason.UNAVAILABLE, detail="a timeout")
SKIPPED = Skipped(id=3, name="East", reason=Reason.REPLACED_MEANWHILE, detail="another token was stored")
WAITING = Skipped(id=4, name="West", expires_at=NOW, reason=Reason.WAITING_FOR_RECONNECT, detail="dead")
DUE = Due(id=5, name="Centre", expires_at=NOW + timedelta(days=9, hours=1), why=DueReason.EXPIRES_SOON)

LINES = {
    "renewed": "renewed  North (1): expires on 30 Jan 2027 (60 days)",
    "failed": "failed   South (2): unavailable, a timeout",
    "skipped": "skipped  East (3): replaced_meanwhile, another token was stored",
    "waiting": "waiting  West (4): expired on 1 Dec 2026; the customer must connect WhatsApp again",
}
HEAD = {"version": "1.0", "exit_code": 0, "stopped": None, "counts": {"due": 1}}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def opened():
    """Opens consoles: text on stdout unless said otherwise."""
    with ExitStack() as stack:

        def open_(**options):
            console = Console(**{"as_json": False, "quiet": False, "dry_run": False, "now": NOW} | options)
            stack.callback(console.close)
            return console

        yield open_


def show(console, *outcomes):
    for outcome in outcomes:
        console.outcome(outcome)


# Text


def test_each_outcome_is_a_line_as_it_comes(opened, capsys):
    show(opened(), RENEWED, FAILED, SKIPPED, WAITING)
    assert capsys.readouterr() == ("\n".join(LINES.values()) + "\n", "")


def test_a_quiet_run_shows_news_only(opened, capsys):
    known = replace(FAILED, is_news=False)
    show(opened(quiet=True), RENEWED, FAILED, known, SKIPPED, WAITING)
    assert capsys.readouterr() == (LINES["failed"] + "\n", "")


def test_a_dry_run_shows_a_table_with_one_head(opened, capsys):
    show(opened(dry_run=True), DUE, WAITING)
    assert capsys.readouterr().out.splitlines() == [
        TABLE_HEAD,
        "Centre (5)                          10 Dec 2026  9 days               it expires soon",
        (
            "West (4)                            1 Dec 2026   expired today        "
            "not due: waiting_for_reconnect"
        ),
    ]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_name_and_its_id_are_cut_on_a_terminal_only(opened, capsys, monkeypatch, is_terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    id_ = "clx0123456789abcdefghijklmnopqrst"
    show(opened(dry_run=True), Due(id=id_, name="Bakery North", why=DueReason.OLD))
    row = capsys.readouterr().out.splitlines()[1]
    assert (row.startswith(f"Bakery North ({id_})  "), "…" in row) == (not is_terminal, is_terminal)


def test_a_quiet_dry_run_shows_failures_only(opened, capsys):
    show(opened(dry_run=True, quiet=True), DUE, FAILED)
    assert capsys.readouterr().out.splitlines() == [
        TABLE_HEAD,
        "South (2)                           30 Jan 2027  60 days              FAILED unavailable, a timeout",
    ]


def test_a_dry_run_without_anything_due_shows_nothing(opened, capsys):
    show(opened(dry_run=True))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("quiet", [False, True])
def test_other_lines_are_shown_as_they_are(opened, capsys, quiet):
    opened(quiet=quiet).line("Renewed: 3  → done")
    assert capsys.readouterr().out == "Renewed: 3  → done\n"


def test_a_console_for_people_prints_no_document(opened, capsys):
    opened().document(HEAD)
    assert capsys.readouterr() == ("", "")


def test_failures_are_kept_for_the_summary_but_not_without_end(opened):
    console = opened(as_json=True)
    show(console, RENEWED, *[FAILED] * 150, SKIPPED)
    assert console.failures == [FAILED] * 100


# JSON


def test_the_document_is_one_line_of_json_with_the_outcomes_as_channels(opened, capsys):
    console = opened(as_json=True)
    console.begin(4)
    show(console, RENEWED, FAILED)
    console.end()
    console.line("not here")
    console.document(HEAD)
    out, err = capsys.readouterr()
    assert (json.loads(out), out.count("\n"), err) == (
        HEAD
        | {
            "channels": [
                {
                    "id": 1,
                    "name": "North",
                    "outcome": "renewed",
                    "reason": None,
                    "detail": None,
                    "expires_at": "2027-01-30T08:00:00Z",
                    "expires_at_before": None,
                    "is_news": False,
                },
                {
                    "id": 2,
                    "name": "South",
                    "outcome": "failed",
                    "reason": "unavailable",
                    "detail": "a timeout",
                    "expires_at": "2027-01-30T08:00:00Z",
                    "expires_at_before": None,
                    "is_news": True,
                },
            ]
        },
        1,
        "",
    )


@pytest.mark.parametrize(("quiet", "dry_run"), [(True, False), (False, True), (True, True)])
def test_the_document_is_the_same_in_a_quiet_and_in_a_dry_run(opened, capsys, quiet, dry_run):
    console = opened(as_json=True, quiet=quiet, dry_run=dry_run)
    show(console, DUE, FAILED)
    console.document(HEAD)
    assert [one["id"] for one in json.loads(capsys.readouterr().out)["channels"]] == [5, 2]


def test_the_document_of_a_run_with_nothing_due_has_an_empty_list(opened, capsys):
    opened(as_json=True).document(HEAD)
    assert json.loads(capsys.readouterr().out) == HEAD | {"channels": []}


@pytest.mark.parametrize("in_memory", [100, module.KEPT_IN_MEMORY])
def test_a_document_may_have_many_channels(opened, capsys, monkeypatch, in_memory):
    monkeypatch.setattr(module, "KEPT_IN_MEMORY", in_memory)
    console = opened(as_json=True)
    show(console, *(Renewed(id=number, name=f"Line {number}") for number in range(3000)))
    console.document(HEAD)
    channels = json.loads(capsys.readouterr().out)["channels"]
    assert [one["id"] for one in channels] == list(range(3000))


NAMES = ['quote " and \\', "two\nlines\r\nthree", "\x1b[31mred\x00", "Ñandú 🥐 → \u2028 \x85", "]}", "\ud800"]


def test_every_name_and_id_is_in_the_document_as_it_is_in_the_table(opened, capsys):
    console = opened(as_json=True)
    show(console, *(Renewed(id=name, name=name) for name in NAMES))
    console.document(HEAD)
    channels = json.loads(capsys.readouterr().out)["channels"]
    assert [(one["id"], one["name"]) for one in channels] == [(name, name) for name in NAMES]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_the_document_is_valid_in_every_locale(opened, monkeypatch, encoding):
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        console = opened(as_json=True)
        show(console, *(Renewed(id=1, name=name) for name in NAMES))
        console.document(HEAD)
        stream.flush()
        channels = json.loads(raw.getvalue())["channels"]
    assert [one["name"] for one in channels] == NAMES


# Secrets


@pytest.fixture
def secret():
    return Secret(VALUE)


LEAKS = [
    Failed(id=1, name=f"Shop {VALUE}", reason=Reason.UNAVAILABLE, detail=f"no answer to {VALUE}."),
    Skipped(id=2, name=VALUE, reason=Reason.REPLACED_MEANWHILE, detail=f"{VALUE} it was"),
    Renewed(id=3, name=f"{VALUE} and EAAGm0PX4ZCpsBAtoken"),
]


def test_no_line_holds_a_secret(opened, capsys, secret):
    console = opened()
    show(console, *LEAKS)
    console.line(f"Stopped: {VALUE}")
    assert capsys.readouterr().out.splitlines() == [
        "failed   Shop *** (1): unavailable, no answer to ***.",
        "skipped  *** (2): replaced_meanwhile, *** it was",
        "renewed  *** and *** (3): never expires now",
        "Stopped: ***",
    ]


def test_no_row_of_a_dry_run_holds_a_secret(opened, capsys, secret):
    show(opened(dry_run=True), LEAKS[0])
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{'Shop *** (1)':<34}  {'-':<11}  {'unknown':<19}  FAILED unavailable, no answer to ***."
    ]


def test_no_member_of_the_document_holds_a_secret(opened, capsys, secret):
    console = opened(as_json=True)
    show(console, *LEAKS)
    console.document({"exit_code": 3, "stopped": {"reason": "database_lost", "detail": f"no {VALUE}"}})
    document = json.loads(capsys.readouterr().out)
    assert document["stopped"] == {"reason": "database_lost", "detail": "no ***"}
    assert [(one["name"], one["detail"]) for one in document["channels"]] == [
        ("Shop ***", "no answer to ***."),
        ("***", "*** it was"),
        ("*** and ***", None),
    ]


# Streams that break


class Broken(io.StringIO):
    """A stream that takes `writes` writes and then no more."""

    def __init__(self, error, writes=0):
        super().__init__()
        self.error = error
        self.writes = writes

    def write(self, text):
        self.writes -= bool(text)  # click tries streams with nothing first
        if self.writes < 0:
            raise self.error
        return super().write(text)


ERRORS = [BrokenPipeError(), OSError(errno.ENOSPC, "no space left"), OSError(errno.EIO, "terminal is gone")]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_a_stdout_that_takes_nothing_more_disturbs_nothing(opened, monkeypatch, error):
    stream = Broken(error, writes=1)
    monkeypatch.setattr(sys, "stdout", stream)
    console = opened()
    show(console, RENEWED, FAILED, SKIPPED)
    console.line("the end")
    assert (stream.getvalue(), console.is_broken, console.failures) == (
        LINES["renewed"] + "\n",
        True,
        [FAILED],
    )


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_a_document_that_is_not_read_disturbs_nothing(opened, monkeypatch, error):
    monkeypatch.setattr(sys, "stdout", Broken(error))
    console = opened(as_json=True)
    show(console, RENEWED)
    console.document(HEAD)
    assert console.is_broken


def test_a_stdout_that_is_closed_disturbs_nothing(opened, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    console = opened()
    show(console, RENEWED, FAILED)
    assert console.failures == [FAILED]


class BrokenSpool(io.StringIO):
    """A temporary file on a full disk, which is noticed in one of its methods."""

    def __init__(self, method):
        super().__init__()
        setattr(self, method, self.fail)

    def fail(self, *_):
        raise OSError(errno.ENOSPC, "no space left")


@pytest.mark.parametrize("method", ["write", "seek"])
def test_a_document_that_would_lack_channels_is_not_printed(opened, capsys, method):
    console = opened(as_json=True)
    console.close()
    console._document._spool = BrokenSpool(method)
    show(console, RENEWED)
    console.document(HEAD)
    assert (capsys.readouterr().out, console.is_broken) == ("", True)


def test_a_temporary_file_that_cannot_be_closed_disturbs_nothing(opened):
    console = opened(as_json=True)
    console.close()
    console._document._spool = BrokenSpool("close")
    console.close()
    assert not console.is_broken


def test_a_small_document_needs_no_temporary_folder(opened, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    console = opened(as_json=True)
    show(console, RENEWED)
    console.document(HEAD)
    assert len(json.loads(capsys.readouterr().out)["channels"]) == 1


def test_a_large_document_without_a_temporary_folder_is_not_printed(opened, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    monkeypatch.setattr(module, "KEPT_IN_MEMORY", 10)
    console = opened(as_json=True)
    show(console, RENEWED, FAILED)
    console.document(HEAD)
    assert (capsys.readouterr().out, console.is_broken) == ("", True)


SCRIPT = """
import sys
from datetime import UTC, datetime
from whatsapp_tokens.reports.console import Console
from refresh_tokens import flush_or_forget
from whatsapp_tokens.results import Renewed
console = Console(as_json={as_json}, quiet=False, dry_run=False, now=datetime(2026, 12, 1, tzinfo=UTC))
sys.stdin.read()
for number in range(5000):
    console.outcome(Renewed(id=number, name="North"))
console.document({{"exit_code": 0}})
console.close()
flush_or_forget(sys.stdout)
sys.exit(0 if console.is_broken else "it took everything")
"""


@pytest.mark.parametrize("as_json", [False, True])
def test_a_reader_that_goes_away_does_not_change_the_exit_code(as_json):
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(as_json=as_json)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(b"")
    assert (process.returncode, b"Traceback" in err, b"Exception ignored" in err) == (0, False, False)


# Terminals


class Terminal:
    """A stream that is a terminal, and what it shows."""

    def __init__(self):
        self._master, slave = os.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8")

    def shown(self):
        """All that was written, once nothing more will be."""
        self.stream.close()
        shown = b""
        with suppress(OSError):  # which is how Linux says that nobody writes any more
            while piece := os.read(self._master, 4096):
                shown += piece
        return shown.decode().replace("\r\n", "\n")

    def hang_up(self):
        if self._master is not None:
            os.close(self._master)
            self._master = None

    def close(self):
        self.hang_up()
        with suppress(OSError):
            self.stream.close()


@pytest.fixture
def terminal():
    opened_ = Terminal()
    yield opened_
    opened_.close()


GREEN, RED, YELLOW, RESET = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m"


@pytest.mark.parametrize("no_color", [None, ""])
def test_outcomes_have_colours_on_a_terminal(opened, terminal, monkeypatch, no_color):
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(sys, "stdout", terminal.stream)
    show(opened(), RENEWED, FAILED, SKIPPED, WAITING)
    assert terminal.shown().splitlines() == [
        f"{GREEN}{LINES['renewed']}{RESET}",
        f"{RED}{LINES['failed']}{RESET}",
        LINES["skipped"],
        f"{YELLOW}{LINES['waiting']}{RESET}",
    ]


@pytest.mark.parametrize("value", ["1", "0", "false"])
def test_no_color_is_honoured_on_a_terminal(opened, terminal, monkeypatch, value):
    monkeypatch.setenv("NO_COLOR", value)
    monkeypatch.setattr(sys, "stdout", terminal.stream)
    show(opened(), RENEWED, FAILED, SKIPPED, WAITING)
    assert terminal.shown().splitlines() == list(LINES.values())


def test_there_are_no_colours_where_stdout_is_no_terminal(opened, terminal, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    show(opened(), RENEWED, FAILED, SKIPPED, WAITING)
    assert "\x1b" not in capsys.readouterr().out


def test_there_are_no_colours_in_the_document(opened, terminal, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal.stream)
    console = opened(as_json=True)
    show(console, RENEWED)
    console.document(HEAD)
    assert json.loads(terminal.shown())["exit_code"] == 0


def test_every_colour_belongs_to_a_word_that_begins_a_line():
    lines = [
        *LINES.values(),
        outcome_line(replace(RENEWED, set_by_hand=True), NOW),
        *(Finding("keys", level, "x").line() for level in Level),
    ]
    assert set(COLOURS) <= {line.split()[0] for line in lines}


def test_a_progress_bar_counts_what_was_due(opened, terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", terminal.stream)  # here: capsys takes over once more before the test
    console = opened()
    console.begin(2)
    show(console, WAITING, RENEWED, FAILED)
    console.end()
    shown = terminal.shown()
    bars = [step for step in ("0/2", "1/2", "2/2", "3/2") if step in shown]
    assert ("Renewing" in shown, bars) == (True, ["0/2", "1/2", "2/2"])
    assert capsys.readouterr().out.splitlines() == [LINES["waiting"], LINES["renewed"], LINES["failed"]]


def test_a_progress_bar_goes_away_at_the_end_and_gives_the_cursor_back(opened, terminal, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal.stream)  # here: capsys takes over once more before the test
    console = opened()
    console.begin(2)
    show(console, RENEWED)
    console.end()
    assert terminal.shown().endswith("\r\x1b[K" + SHOW_CURSOR)


def test_lines_are_written_above_the_bar(opened, terminal, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal.stream)
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    monkeypatch.setenv("NO_COLOR", "1")
    console = opened()
    console.begin(1)
    show(console, RENEWED)
    console.end()
    assert f"\r\x1b[K{LINES['renewed']}\n" in terminal.shown()


@pytest.mark.parametrize(
    ("due", "options"),
    [(0, {}), (5, {"quiet": True}), (5, {"dry_run": True}), (5, {"as_json": True})],
)
def test_a_run_that_does_not_want_a_progress_bar_has_none(
    opened, terminal, monkeypatch, capsys, due, options
):
    monkeypatch.setattr(sys, "stderr", terminal.stream)  # here: capsys takes over once more before the test
    console = opened(**options)
    console.begin(due)
    show(console, FAILED)
    console.end()
    print(".", file=sys.stderr)
    assert terminal.shown() == ".\n"


def test_a_stderr_that_is_no_terminal_gets_no_progress_bar(opened, terminal, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal.stream)
    console = opened()
    console.begin(2)
    show(console, RENEWED, FAILED)
    console.end()
    assert capsys.readouterr().err == ""


def test_a_terminal_that_hangs_up_disturbs_nothing(opened, terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", terminal.stream)  # here: capsys takes over once more before the test
    console = opened()
    console.begin(2)
    terminal.hang_up()
    show(console, RENEWED, FAILED)
    console.end()
    assert capsys.readouterr().out.splitlines() == [LINES["renewed"], LINES["failed"]]


class FullTerminal(Broken):
    """A terminal that takes nothing."""

    def isatty(self):
        return True


def test_a_terminal_that_takes_nothing_disturbs_nothing(opened, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", FullTerminal(OSError(errno.EIO, "terminal is gone")))
    console = opened()
    console.begin(2)
    show(console, RENEWED, FAILED)
    console.end()
    assert capsys.readouterr().out.splitlines() == [LINES["renewed"], LINES["failed"]]


def test_a_stderr_that_is_closed_gets_no_progress_bar(opened, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    console = opened()
    console.begin(2)
    show(console, RENEWED)
    console.end()
    assert capsys.readouterr().out == LINES["renewed"] + "\n"
