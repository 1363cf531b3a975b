"""The status page and its JSON twin, as text: what is in them, what cannot get in, how they are replaced."""

from __future__ import annotations

import json
import os
import re
import resource
import stat
from base64 import b64encode
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from html.parser import HTMLParser
from itertools import chain, groupby, product

import pytest
from world import OTHER_KEY, days, fernet

from models import Channel, fingerprint
from whatsapp_tokens.redaction import Secret, one_line
from whatsapp_tokens.reports import status_files as status_reports
from whatsapp_tokens.reports.language import Language
from whatsapp_tokens.reports.status_files import document, write
from whatsapp_tokens.reports.status_lines import View, lines_of
from whatsapp_tokens.reports.status_page import OTHERS, SECTIONS, Tile, group_counts, html, tiles, timeline
from whatsapp_tokens.results import ChannelTotals, State

NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
DEAD = "reconnect_required: the customer's password was changed"
VIEW = View(
    NOW,
    days(15),
    days(60),
    ChannelTotals(
        {State.DOWN: 1, State.OK: 1},
        soonest=NOW + days(9),
        expiries={date(2026, 12, 10): 1, date(2027, 1, 20): 4},
    ),
    exit_code=1,
    reconnect_url="https://app.example.com/reconnect?channel={channel_id}&from=page",
)
SPANISH = replace(VIEW, language=Language("es"))
CHANNELS = [
    Channel(
        "a/7",
        "North",
        "x",
        NOW + days(9),
        NOW - days(51),
        "warning",
        DEAD,
        phone_number="+34 600",
        state=State.DOWN,
    ),
    Channel(8, "South", "x", NOW + days(50), NOW - days(10), "ok", state=State.OK),
]


def shown(view=VIEW, channels=CHANNELS):
    return "".join(html(view, lines_of(channels, view)))


def read(view=VIEW, channels=CHANNELS):
    return json.loads("".join(document(view, lines_of(channels, view))))


class Reader(HTMLParser):
    """What a browser would find: the texts, and every attribute of every element."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


# -- what is in it


def test_a_line_that_needs_attention_says_who_why_by_when_and_what_to_do():
    text = Reader(shown()).text
    parts = [
        *("North", "a/7", "+34 600", "Down now", "Down since not known", "The customer", "11 Oct 2026"),
        "Meta no longer accepts the token : the customer's password was changed",
        "The customer must connect WhatsApp again",
    ]
    assert [part for part in parts if part not in text and part.replace(" :", ":") not in text] == []


def test_our_own_details_are_in_the_language_of_the_page_and_no_one_is_told_to_wait_on_the_last_day():
    error = "unavailable: no answer from Meta: ReadTimeout"
    late = Channel(3, "Late", "x", NOW, None, "warning", error, state=State.WARNING)
    (line,) = read(SPANISH, [late])["lines"]
    assert (line["detail"], line["advice"][:42]) == (
        "sin respuesta de Meta (ReadTimeout)",
        "El cliente debe volver a conectar WhatsApp",
    )


def test_what_matters_stands_at_the_top():
    text = Reader(shown()).text
    before_the_lines = text.partition("Find a line")[0]
    assert all(
        part in before_the_lines
        for part in ("Down now 1 WhatsApp does not work", "Need attention 0 none", "All lines 2")
    )
    assert "1 Dec 2026, 08:00 UTC" in before_the_lines


def test_the_page_speaks_spanish_with_spanish_dates():
    page = shown(SPANISH)
    text = Reader(page).text
    assert 'lang="es"' in page
    assert all(
        part in text
        for part in (
            "Sin servicio 1 WhatsApp no funciona",
            "10 dic 2026 (9 días)",
            "El cliente debe volver a conectar WhatsApp",
        )
    )


def links(channels):
    found = Reader(shown(channels=channels)).elements
    return [fields["href"] for tag, fields in found if tag == "a" and fields["class"] == "button"]


def test_the_button_leads_to_the_channel_and_is_not_where_nothing_is_to_be_done():
    assert links(CHANNELS) == ["https://app.example.com/reconnect?channel=a%2F7&from=page"]


@pytest.mark.parametrize(
    ("state", "error", "lives", "who"),
    [
        (State.DOWN, "reconnect_required: x", 9, "The customer"),
        (State.WAITING, "reconnect_required: x", -1, "The customer"),
        (State.WARNING, "missing_permission: missing permission: x", 59, "The customer"),
        (State.WARNING, "not_extended: x", 5, "The customer"),
        (State.WARNING, "undecryptable: x", 5, "Your team"),
        (State.WARNING, "undecryptable: x", -5, "Your team"),
        (State.WARNING, "something_new: x", 5, "Your team"),
        (State.WARNING, "unavailable: x", 5, "The next run"),
        (State.WARNING, "unexpected_answer: x", 5, "The next run"),
        (State.WARNING, "unavailable: x", 0.5, "The customer"),
        (State.ENDED, None, -5, "Your team"),
        (State.ENDING, None, 5, None),
        (State.UNKNOWN, None, None, None),
        (State.OK, None, 50, None),
        (State.NEVER_EXPIRES, None, None, None),
    ],
)
def test_a_line_says_who_acts_and_has_a_button_only_where_that_is_the_customer(state, error, lives, who):
    expires_at = None if lives is None else NOW + days(lives)
    one = Channel(8, "South", "x", expires_at, None, "warning" if error else "ok", error, state=state)
    said = re.search(r"Who acts (The customer|Your team|The next run)", Reader(shown(channels=[one])).text)
    assert (said and said[1], len(links([one]))) == (who, int(who == "The customer"))


GROUPS = [
    (State.DOWN, "reconnect_required: x", 9, "down"),
    (State.WAITING, "reconnect_required: x", -1, "down"),
    (State.ENDED, None, -1, "down"),
    (State.WARNING, "unavailable: x", -1, "down"),
    (State.WARNING, "missing_permission: x", 0, "down"),
    (State.WARNING, "unavailable: x", 9, "warning"),
    (State.WARNING, "unavailable: x", None, "warning"),
    (State.WARNING, "missing_permission: x", 14.9, "warning"),
    (State.WARNING, "missing_permission: x", 15, "lacking"),
    (State.WARNING, "missing_permission: x", None, "lacking"),
    (State.ENDING, None, 9, "ending"),
    (State.UNKNOWN, None, None, "unknown"),
    (State.OK, None, 50, "ok"),
    (State.NEVER_EXPIRES, None, None, "never_expires"),
]


@pytest.mark.parametrize(("state", "error", "lives", "group"), GROUPS)
def test_what_is_down_what_will_be_and_what_only_lacks_a_permission_are_told_apart(
    state, error, lives, group
):
    expires_at = None if lives is None else NOW + days(lives)
    one = Channel(8, "South", "x", expires_at, None, "warning" if error else "ok", error, state=state)
    page = shown(channels=[one])
    titles = {"down": "Down now", "warning": "Need attention before they expire"}
    titles |= {"lacking": "Work, but lack a permission"}
    heading = f">{titles.get(group, 'Other lines')} <span"
    assert (f'data-state="{group}"' in page, heading in page) == (True, True)


@pytest.mark.parametrize(
    ("lives", "rejected", "said"),
    [
        (9, 2.5, "Down since 28 Nov 2026 (2 days) 20:00 UTC"),
        (-1, 2.5, "Down since 28 Nov 2026 (2 days) 20:00 UTC"),
        (-3, 2.5, "Down since 28 Nov 2026 (3 days) 08:00 UTC"),
        (9, 0, "Down since 1 Dec 2026 (less than a day) 08:00 UTC"),
        (-3, None, "Down since 28 Nov 2026 (3 days) 08:00 UTC"),
        (9, None, "Down since not known"),
    ],
)
def test_a_line_that_is_down_says_since_when(lives, rejected, said):
    one = Channel("a/7", "North", "x", NOW + days(lives), None, "warning", DEAD, state=State.DOWN)
    since = {} if rejected is None else {"a/7": NOW - days(rejected)}
    page = "".join(html(VIEW, lines_of([one], VIEW, lambda _: since)))
    assert said in Reader(page).text


def test_since_when_is_asked_only_of_lines_that_meta_rejects():
    asked = []
    known = lines_of(
        [*CHANNELS, replace(CHANNELS[0], id=9, error="unavailable: x", state=State.WARNING)],
        VIEW,
        lambda channels: asked.extend(one.id for one in channels) or {},
    )
    assert (len(list(known)), asked) == (3, ["a/7"])


def test_without_a_link_to_reconnect_there_is_no_button():
    assert 'class="button"' not in shown(replace(VIEW, reconnect_url=None))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"exit_code": 0}, "finished; nothing new failed"),
        ({"exit_code": 1}, "finished; some lines failed"),
        ({"exit_code": 1, "undelivered": True}, "finished; an alert was not delivered"),
        ({"exit_code": 143}, "was interrupted"),
        ({"exit_code": 3, "stopped": "app_rejected"}, "stopped early: Meta refuses the app"),
        ({"is_dry": True, "exit_code": 0}, "Looked at, without a run"),
    ],
)
def test_how_the_run_ended_is_said(fields, said):
    assert said in Reader(shown(replace(VIEW, **fields))).text


@pytest.mark.parametrize(
    ("fleet", "said"),
    [
        (ChannelTotals(), ["/All lines/0/no line has a token"]),
        (ChannelTotals({State.OK: 1}), ["calm/All lines/1/all lines are well"]),
        (ChannelTotals({State.OK: 1, State.NEVER_EXPIRES: 1}), ["calm/All lines/2/all lines are well"]),
        (
            ChannelTotals({State.OK: 4, State.ENDED: 1}),
            ["down/Down now/1/WhatsApp does not work", "/Need attention/0/none", "/All lines/5/"],
        ),
        (
            ChannelTotals({State.WARNING: 9, State.DOWN: 3}, expired_warnings=4, lacking=2),
            [
                "down/Down now/7/WhatsApp does not work",
                "warning/Need attention/3/before they expire",
                "lacking/Lack a permission/2/but work",
                "/All lines/12/",
            ],
        ),
        (
            ChannelTotals({State.WARNING: 1, State.ENDING: 2}),
            [
                "/Down now/0/none",
                "warning/Need attention/1/before they expire",
                "/All lines/3/2 expire soon",
            ],
        ),
        (
            ChannelTotals({State.ENDING: 1, State.UNKNOWN: 2}),
            ["/All lines/3/1 expires soon · 2 not known yet"],
        ),
    ],
)
def test_what_is_down_and_what_needs_attention_are_counted_apart_for_any_fleet(fleet, said):
    view = replace(VIEW, totals=fleet, exit_code=0)
    found = tiles(view)
    text = Reader(shown(view, [])).text
    shown_in_order = " ".join(f"{one.label} {one.figure} {one.more}".strip() for one in found)
    assert [f"{one.tone}/{one.label}/{one.figure}/{one.more}" for one in found] == said
    assert shown_in_order in text


@pytest.mark.parametrize(
    "ending", [{"exit_code": 1}, {"exit_code": 143}, {"exit_code": 3, "stopped": "rate_limited"}]
)
def test_all_is_well_is_not_said_after_a_run_that_did_not_go_well(ending):
    found = tiles(replace(VIEW, totals=ChannelTotals({State.OK: 3}), **ending))
    assert found == [Tile("", "All lines", "3", "")]


def test_a_token_that_expired_and_was_not_renewed_has_its_own_words():
    dead = Channel(3, "Dead", "x", NOW - days(5), NOW - days(65), "ok", state=State.ENDED)
    (line,) = read(channels=[dead])["lines"]
    assert {name: line[name] for name in ("state", "reason", "cause", "detail", "advice")} == {
        "state": "ended",
        "reason": None,
        "cause": "Its token has expired, and no run has renewed it",
        "detail": None,
        "advice": "Run the renewal now; if that fails, the customer must connect WhatsApp again",
    }
    page = shown(SPANISH, [dead])
    said = ("Sin servicio", "Su token ha caducado", "Ejecute la renovación ahora", 'href="#down"')
    assert [text for text in said if text not in page] == []


def test_the_timeline_has_today_and_sixty_days_and_the_highest_is_the_most():
    bars = timeline(VIEW)
    assert (len(bars), [(bar.day, bar.count, bar.is_near) for bar in bars if bar.count], bars[50].height) == (
        61,
        [("10 Dec", 1, True), ("20 Jan", 4, False)],
        95,
    )


def test_what_is_left_out_is_counted():
    fleet = ChannelTotals({State.WARNING: 1, State.OK: 4000})
    assert "… and 3999 more" in Reader(shown(replace(VIEW, totals=fleet))).text
    assert read(replace(VIEW, totals=fleet))["left_out"] == 3999


def test_the_json_says_the_same():
    found = read()
    assert found | {"lines": len(found["lines"])} == {
        "version": 1,
        "generated_at": "2026-12-01T08:00:00Z",
        "dry_run": False,
        "exit_code": 1,
        "stopped": None,
        "total": 2,
        "attention": 1,
        "states": {
            "down": 1,
            "warning": 0,
            "ended": 0,
            "waiting": 0,
            "ending": 0,
            "unknown": 0,
            "ok": 1,
            "never_expires": 0,
        },
        "soonest_expiry": "2026-12-10T08:00:00Z",
        "ends": [{"date": "2026-12-10", "count": 1}, {"date": "2027-01-20", "count": 4}],
        "lines": 2,
        "left_out": 0,
    }
    assert found["lines"][0] == {
        "id": "a/7",
        "name": "North",
        "phone_number": "+34 600",
        "state": "down",
        "expires_at": "2026-12-10T08:00:00Z",
        "refreshed_at": "2026-10-11T08:00:00Z",
        "reason": "reconnect_required",
        "cause": "Meta no longer accepts the token",
        "detail": "the customer's password was changed",
        "advice": "The customer must connect WhatsApp again",
        "reconnect_url": "https://app.example.com/reconnect?channel=a%2F7&from=page",
    }


@pytest.mark.parametrize(
    "id_", ["line\nbreak", " two  spaces ", "a\u202eb", "\x1f\x1f", "zero\u200bwidth", "cl9x", 2**53]
)
def test_an_id_is_in_the_json_as_it_is_in_the_table_and_in_the_page_in_one_clean_line(id_):
    odd = [replace(CHANNELS[0], id=id_), CHANNELS[1]]
    page = shown(channels=odd)
    assert (
        [line["id"] for line in read(channels=odd)["lines"]],
        f"<bdi>{one_line(str(id_))}</bdi>" in page,
    ) == (
        [id_, 8],
        True,
    )


@pytest.mark.parametrize("id_", ["{} x", "line\n{}", "\x1f{}\u202e"])
def test_an_id_that_holds_a_secret_is_not_in_the_json(id_):
    secret = Secret("correct-horse-battery-staple")
    found = json.dumps(read(channels=[replace(CHANNELS[0], id=id_.format(secret.reveal()))]))
    assert ("battery" in found, "***" in found) == (False, True)


def test_the_json_without_lines_is_json():
    assert read(channels=[])["lines"] == []


def test_after_a_reconnect_the_old_failure_is_not_told_any_more():
    (line,) = read(channels=[replace(CHANNELS[0], fingerprint=fingerprint("another"), state=State.UNKNOWN)])[
        "lines"
    ]
    known = ("state", "expires_at", "refreshed_at", "reason", "cause", "detail", "advice")
    assert [line[name] for name in known] == ["unknown", *[None] * 6]


# -- what cannot get in

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "*bold* <!channel> ::error::boom",
    "two\nlines\r\n\x1b[31mred",
    "\u202eright to left\u2066",
    "{{ 7 * 7 }} {% raw %}",
    "</style></title><b>",
    "x" * 300,
    "\x1f\x1f",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_and_nothing_else(name):
    def tags(page):
        return [tag for tag, _ in Reader(page).elements]

    odd = [replace(channel, name=name, error=f"unavailable: x{name}") for channel in CHANNELS]
    plain = [replace(channel, name="plain", error="unavailable: x") for channel in CHANNELS]
    assert tags(shown(channels=odd)) == tags(shown(channels=plain))
    assert [line["id"] for line in read(channels=odd)["lines"]] == ["a/7", 8]


def test_no_script_or_style_but_ours_is_let_in():
    page = shown()
    (policy,) = (f["content"] for t, f in Reader(page).elements if t == "meta" and "http-equiv" in f)
    inside = [re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL).group(1) for tag in ("style", "script")]
    style, script = (b64encode(sha256(text.encode()).digest()).decode() for text in inside)
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def test_nothing_is_loaded_from_anywhere():
    elements = Reader(shown(replace(VIEW, reconnect_url=None))).elements
    addresses = chain.from_iterable(
        (found.get(name) for name in ("src", "href", "srcset", "action", "data")) for _, found in elements
    )
    assert {address[0] for address in addresses if address} == {"#", "d"}  # in the page, and the empty icon


def test_no_handler_or_style_stands_in_an_attribute():
    names = {name for _, found in Reader(shown()).elements for name in found}
    assert [name for name in names if name.startswith("on") or name == "style"] == []


@pytest.mark.parametrize("form", [shown, lambda **more: json.dumps(read(**more))])
def test_a_secret_in_a_row_is_not_shown(form):
    secret = Secret("correct-horse-battery-staple")
    text = f"x {secret.reveal()} EAAtokentokentoken1"
    odd = [
        replace(channel, id=text, name=text, phone_number=text, error=f"unavailable: {text}")
        for channel in CHANNELS
    ]
    page = form(channels=odd)
    assert ("battery" in page, "EAAtoken" in page, page.count("***") >= 6) == (False, False, True)


# -- through the command


@pytest.fixture
def fleet(world):
    """Channels of several kinds, of which one fails."""
    world.channel()
    world.channel(key=OTHER_KEY, name="Broken")
    world.channel(token_expires_at=world.now + days(40), last_token_refresh_at=world.now)
    return world


def test_a_run_writes_every_report_that_is_asked_for(fleet, tmp_path):
    paths = [tmp_path / "status.html", tmp_path / "status.json", tmp_path / "again.JSON"]
    result = fleet.run(*chain.from_iterable(("--report", str(path)) for path in paths))
    found = json.loads(paths[1].read_text())
    assert (result.code, found["exit_code"], found["states"]["warning"], found["total"]) == (1, 1, 1, 3)
    assert "Broken" in Reader(paths[0].read_text()).text
    assert json.loads(paths[2].read_text())["lines"] == found["lines"]


def test_the_page_shows_the_fleet_as_it_is_after_the_run(fleet, tmp_path):
    fleet.run("--report", str(tmp_path / "a.json"))
    lines = json.loads((tmp_path / "a.json").read_text())["lines"]
    assert [line["state"] for line in lines] == ["warning", "ok", "ok"]


def test_a_dry_run_looks_without_touching(fleet, tmp_path):
    before = fleet.rows.get(1)
    result = fleet.run("--dry-run", "--report", str(tmp_path / "a.json"))
    found = json.loads((tmp_path / "a.json").read_text())
    assert (result.code, found["dry_run"], fleet.rows.get(1), fleet.meta.count()) == (1, True, before, 0)


@pytest.mark.parametrize("options", [("--dry-run",), ()])
def test_a_dead_token_is_seen_without_a_run_that_got_to_it(world, tmp_path, options):
    world.env["META_APP_SECRET"] = "0" * 32
    for expires_at in (world.now - days(5), world.now + timedelta(hours=3), None):
        world.channel(token_status="ok" if expires_at else None, token_expires_at=expires_at)
    world.run(*options, "--report", str(tmp_path / "a.json"), "--report", str(tmp_path / "a.html"))
    found = json.loads((tmp_path / "a.json").read_text())
    states = {line["state"] for line in found["lines"]}
    assert (found["attention"], found["lines"][0]["state"], states) == (
        1,
        "ended",
        {"ended", "ending", "unknown"},
    )
    text = Reader((tmp_path / "a.html").read_text()).text
    assert "Down now 1 WhatsApp does not work Need attention 0 none" in text
    assert "All lines 3 1 expires soon · 1 not known yet" in text


def test_a_run_that_stops_early_shows_why(fleet, tmp_path):
    fleet.env["META_APP_SECRET"] = "0" * 32
    result = fleet.run("--report", str(tmp_path / "a.json"))
    found = json.loads((tmp_path / "a.json").read_text())
    assert (result.code, found["stopped"], found["exit_code"]) == (3, "app_rejected", 3)


@pytest.mark.parametrize("name", ["status", "status.htm", "status.txt", ".html"])
def test_another_suffix_is_a_usage_error(fleet, tmp_path, name):
    result = fleet.run("--report", str(tmp_path / name))
    assert (result.code, "must end in .html or .json" in result.err, fleet.meta.count()) == (2, True, 0)


def test_a_configuration_error_leaves_the_old_page(fleet, tmp_path):
    path = tmp_path / "a.html"
    path.write_text("old")
    fleet.rows.run("UPDATE \"Channel\" SET wa_token_encrypted = 'nonsense'")
    assert (fleet.run("--report", str(path)).code, path.read_text()) == (2, "old")


@pytest.mark.parametrize(("code", "title"), [("es", "Líneas de WhatsApp"), ("pt", "Linhas de WhatsApp")])
def test_the_page_speaks_the_language_of_the_alerts(fleet, tmp_path, code, title):
    fleet.env["ALERT_LANGUAGE"] = code
    fleet.run("--report", str(tmp_path / "a.html"))
    assert title in (tmp_path / "a.html").read_text()


def test_a_folder_that_is_not_there_is_an_error_after_the_work_is_done(world, tmp_path):
    id_ = world.channel()
    result = world.run("--report", str(tmp_path / "nowhere" / "a.html"))
    assert (result.code, world.events(id_), "No such file or directory" in result.err) == (
        1,
        ["refreshed"],
        True,
    )


@pytest.mark.parametrize("folder", ["/proc", "/dev/null"])
def test_a_folder_that_cannot_be_written_to_is_an_error_too(world, folder):
    world.channel()
    result = world.run("--report", f"{folder}/status.html")
    assert (result.code, f"--report {folder}/status.html could not be written: " in result.err) == (1, True)


def test_the_others_are_written_all_the_same(world, tmp_path):
    world.channel()
    result = world.run("--report", str(tmp_path / "no" / "a.html"), "--report", str(tmp_path / "a.html"))
    assert (result.code, (tmp_path / "a.html").exists()) == (1, True)


def test_on_a_full_disk_the_old_page_stays_and_the_exit_code_tells(world, tmp_path):
    for _ in range(30):
        world.channel()
    path = tmp_path / "a.html"
    path.write_text("old")

    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    world.env["PYTHONDONTWRITEBYTECODE"] = "1"  # it would find no room, either
    if world.rows.is_sqlite:  # whose own file is larger than that: only the page is to have no room
        result = world.start("--dry-run", "--report", str(path), preexec_fn=little_room)
    else:
        result = world.start("--report", str(path), preexec_fn=little_room)
    _, err = result.communicate(timeout=60)
    assert (result.returncode, "could not be written: File too large" in err) == (1, True)
    assert (path.read_text(), [found.name for found in tmp_path.glob(".status-*")]) == ("old", [])


def test_what_a_link_leads_to_is_replaced_and_not_the_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "a.html").symlink_to(tmp_path / "real" / "b.html")
    for _ in range(2):
        write(tmp_path / "a.html", VIEW, CHANNELS)
    assert ((tmp_path / "a.html").is_symlink(), (tmp_path / "real" / "b.html").is_file()) == (True, True)


def test_what_killed_runs_left_behind_is_swept_and_what_others_are_writing_is_not(tmp_path):
    old, fresh, other = (tmp_path / name for name in (".status-old", ".status-fresh", "status-old"))
    for path, hours in ((old, 2), (fresh, 0.5), (other, 2)):
        path.touch()
        at = (NOW - timedelta(hours=hours)).timestamp()
        os.utime(path, (at, at))
    (tmp_path / ".status-folder").mkdir()
    os.utime(tmp_path / ".status-folder", (0, 0))
    write(tmp_path / "a.html", VIEW, CHANNELS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".status-folder",
        ".status-fresh",
        "a.html",
        "status-old",
    ]


def test_a_device_is_not_replaced(tmp_path):
    (tmp_path / "a.html").symlink_to("/dev/full")
    with pytest.raises(OSError, match="it is there, and no file"):
        write(tmp_path / "a.html", VIEW, CHANNELS)


def test_a_mistake_of_ours_is_said_and_changes_nothing_else(fleet, tmp_path, monkeypatch):
    monkeypatch.setattr(status_reports, "write", lambda *_: 1 / 0)
    result = fleet.run("--report", str(tmp_path / "a.html"))
    assert (result.code, "unexpected error (ZeroDivisionError)" in result.err) == (1, True)


def test_the_page_is_readable_for_a_web_server_and_keeps_the_mode_that_it_has(tmp_path):
    path = tmp_path / "a.html"
    mask = os.umask(0o022)
    try:
        write(path, VIEW, CHANNELS)
        first = stat.S_IMODE(path.stat().st_mode)
        path.chmod(0o640)
        write(path, VIEW, CHANNELS)
    finally:
        os.umask(mask)
    assert (first, stat.S_IMODE(path.stat().st_mode)) == (0o644, 0o640)


def test_all_that_need_attention_are_shown_and_a_thousand_of_the_others(world, tmp_path):
    def rows(count, **columns):
        world.rows.insert_many(
            {"type": "whatsapp", "name": "x", "wa_token_encrypted": TEXT} | columns for _ in range(count)
        )

    fine = {"token_status": "ok", "last_token_refresh_at": world.now}
    waiting = {"token_status": "warning", "token_error": DEAD, "token_fingerprint": fingerprint(TEXT)}
    rows(1200, token_status="never_expires", last_token_refresh_at=world.now)
    rows(300, token_expires_at=world.now + days(40), **fine)
    rows(2100, token_expires_at=world.now - days(1), **waiting)
    world.run("-q", "--report", str(tmp_path / "a.json"))
    found = json.loads((tmp_path / "a.json").read_text())
    states = [line["state"] for line in found["lines"]]
    assert (found["total"], found["attention"], found["left_out"]) == (3600, 2100, 500)
    assert states == ["waiting"] * 2100 + ["ok"] * 300 + ["never_expires"] * 700


def test_a_line_with_another_token_is_shown_although_its_row_still_says_warning(world, tmp_path):
    world.channel(token_status="warning", token_error=DEAD, token_fingerprint="of another")
    world.run("--dry-run", "--report", str(tmp_path / "a.json"))
    found = json.loads((tmp_path / "a.json").read_text())
    assert ([line["state"] for line in found["lines"]], found["attention"]) == (["unknown"], 0)
    assert found["left_out"] == 0


def test_the_groups_of_the_lines_are_as_large_as_the_totals_say(world, database):
    ends = [None, *(world.now + days(away) for away in (-1, 1, 14, 16, 50))]
    errors = [None, "", DEAD, "missing_permission", "missing_permission: x", "unavailable: x"]
    marks = [None, fingerprint(TEXT), "of another"]
    for status, error, end, mark in product([None, "ok", "warning", "never_expires"], errors, ends, marks):
        world.channel(
            "",
            wa_token_encrypted=TEXT,
            token_status=status,
            token_error=error,
            token_expires_at=end,
            token_fingerprint=mark,
        )
    view = replace(VIEW, now=world.now, totals=database.queries.totals(world.now, world.now + days(15)))
    lines = list(lines_of(status_reports._all_channels(database.queries, view), view))
    found = Counter(line.on_page.group for line in lines)
    expected = {
        group: count for group, count in group_counts(view.totals).items() if count and group != OTHERS
    }
    assert (found, len(lines), len({line.id for line in lines})) == (expected, 432, 432)
    sections = [line.on_page.group if line.on_page.group in SECTIONS else OTHERS for line in lines]
    assert [section for section, _ in groupby(sections)] == [*SECTIONS]


TEXT = fernet().encrypt(b"a-token").decode()
