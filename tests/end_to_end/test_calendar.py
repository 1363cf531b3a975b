"""Sixty days of a fleet, run by run: the real command, a clock that is turned, and what people hear of it.

Nothing is asserted along the way: the calendar that comes out is compared with the one at the end.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from receivers import Reply, SlackServer, running
from world import World, days, fernet, unix

import refresh_tokens
from sandbox.graph import GraphServer, graph_error

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
PASSWORD_CHANGED = (190, 460, "The session was invalidated because the password was changed.")
OUTAGE = graph_error(500, "An unknown error has occurred.", 1)


class Life:
    """A fleet, its Meta, its Slack and the program, all of which live by one clock."""

    def __init__(self, url, meta, slack, folder):
        self.world = World(url, meta, folder)
        self.world.now = self.now = START
        self.world.env |= {"META_RETRIES": "0", "SLACK_WEBHOOK_URL": slack.url.reveal()}
        self.slack = slack
        self.ids = {}
        self.tokens = {}
        self.heard = []

    def connect(self, name, *, lives, age=None, **fields):
        """A line whose token was issued `age` days before today, and lives `lives` days from today on."""
        age = 60 - lives if age is None else age
        issued, ends = self.now - days(age), self.now + days(lives)
        fields = {"issued_at": unix(issued), "expires_at": unix(ends)} | fields
        self.tokens[name] = self.world.meta.issue(**fields)
        self.ids[name] = self.world.channel(
            self.tokens[name], name=name, token_expires_at=ends, last_token_refresh_at=issued
        )

    def reconnect(self, name):
        """The application's button: a new token, and nothing else, is written."""
        self.tokens[name] = self.world.meta.issue()
        sealed = fernet().encrypt(self.tokens[name].encode()).decode()
        self.world.rows.update(self.ids[name], wa_token_encrypted=sealed)

    def at_meta(self, name, **fields):
        """Something about the line's token changes at Meta."""
        for field, value in fields.items():
            setattr(self.world.meta.token(self.tokens[name]), field, value)

    def outage(self, name, *answer):
        """Meta gives this answer whenever it is asked about the line's token; without one, all is well."""
        self.world.meta.script(self.tokens[name], *answer, forever=bool(answer))

    def delete(self, name):
        self.world.rows.run('DELETE FROM "Channel" WHERE id = :id', id=self.ids[name])

    def run(self, day):
        """The daily run, and what arrived of it."""
        before = len(self.slack.received)
        result = self.world.run()
        for payload in self.slack.received[before:]:
            _header, *sections, _counts = payload["blocks"]
            self.heard += [f"day {day}: {payload['text']}"]
            self.heard += [f"    {line}" for line in summed_up([one["text"]["text"] for one in sections])]
        if "could not be delivered" in result.err:
            self.heard += [f"day {day}: not delivered, exit {result.code}"]


def summed_up(sections):
    """Of each card its name, cause and end in one line; of the summary what no card says."""
    summary, *cards = sections
    for card in cards:
        title, cause, ends, _to_do = card.splitlines()
        yield f"{title.strip('*')}: {cause.partition(':')[0]}. {ends}"
    if not cards or "Recovered" in summary:
        yield summary[summary.find("Recovered") if cards else 0 :].partition("; Graph")[0]


@pytest.fixture
def life(database_url, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def clock():
        return lived.now.timestamp()

    with running(SlackServer()) as slack, GraphServer(now=clock) as meta:
        lived = Life(database_url, meta, slack, tmp_path)
        lived.world.capsys = capsys
        monkeypatch.setattr(refresh_tokens, "now", lambda: lived.now)
        yield lived


def play(life, events):
    """Sixty days: the events of each, and then the run at its usual hour, except when the machine is off."""
    for day in range(60):
        life.now = START + days(day)
        for event in events.get(day, []):
            event()
        if day not in MACHINE_IS_OFF:
            life.run(day)


MACHINE_IS_OFF = range(47, 52)


def test_sixty_days_of_a_fleet(life):
    life.connect("Bakery", lives=20)  # never fails
    life.connect("Cafe", lives=16)  # its password is changed on day 2, and it reconnects on day 20
    life.connect("Dentist", lives=10, error=PASSWORD_CHANGED)  # dead from the first day on, for good
    life.connect("Hotel", lives=19)  # Meta cannot answer for it from day 5 on, then it lacks a permission
    life.connect("Inn", lives=0, age=10, expires_at=0)  # never expires
    life.connect("Kiosk", lives=45)  # is to be renewed on day 31, when Meta refuses the app for two days
    life.connect("Library", lives=55)  # dies on day 41, when Slack refuses its alert
    slack, meta = life.slack, life.world.meta
    secret = meta.app_secret
    play(
        life,
        {
            1: [
                lambda: life.connect("Florist", lives=5, exchange_same=True),  # first at 5 days, then at 3
                lambda: life.connect("Museum", lives=8, exchange_same=True),  # first at 8 days, then at 7
            ],
            2: [
                lambda: life.at_meta("Cafe", error=PASSWORD_CHANGED),
                lambda: life.connect("Nursery", lives=14, exchange_same=True),
            ],
            5: [lambda: life.outage("Hotel", OUTAGE)],
            7: [
                lambda: life.outage("Hotel"),
                lambda: life.at_meta("Hotel", scopes=["whatsapp_business_messaging"]),
            ],
            8: [lambda: life.delete("Nursery")],
            11: [lambda: life.reconnect("Hotel")],
            20: [lambda: life.reconnect("Cafe")],
            31: [lambda: setattr(meta, "app_secret", "another")],
            33: [lambda: setattr(meta, "app_secret", secret)],
            41: [
                lambda: life.at_meta("Library", error=PASSWORD_CHANGED),
                lambda: slack.script.append(Reply(410, "channel_is_archived")),
            ],
        },
    )
    assert "\n".join(life.heard) == CALENDAR


CALENDAR = """\
day 0: 1 WhatsApp line has stopped working
    Dentist (3): Meta no longer accepts the token. Stopped working, found on 5 Jan 2026
day 1: 2 WhatsApp lines need attention
    Florist (8): Meta answered, but did not extend the token. Expires on 11 Jan 2026 (5 days)
    Museum (9): Meta answered, but did not extend the token. Expires on 14 Jan 2026 (8 days)
day 2: 3 WhatsApp lines need attention: 1 has stopped working
    Cafe (2): Meta no longer accepts the token. Stopped working, found on 7 Jan 2026
    Museum (9): Meta answered, but did not extend the token. Expires on 14 Jan 2026 (7 days)
    Nursery (10): Meta answered, but did not extend the token. Expires on 21 Jan 2026 (14 days)
day 3: 2 WhatsApp lines need attention: 1 has stopped working
    Dentist (3): Meta no longer accepts the token. Stopped working, found on 5 Jan 2026
    Florist (8): Meta answered, but did not extend the token. Expires on 11 Jan 2026 (3 days)
day 5: 2 WhatsApp lines need attention
    Florist (8): Meta answered, but did not extend the token. Expires on 11 Jan 2026 (1 day)
    Hotel (4): Meta could not be reached. Expires on 24 Jan 2026 (14 days)
day 6: 2 WhatsApp lines need attention: 1 has stopped working
    Florist (8): Meta no longer accepts the token. Stopped working on 11 Jan 2026
    Museum (9): Meta answered, but did not extend the token. Expires on 14 Jan 2026 (3 days)
day 7: 2 WhatsApp lines need attention: 1 has stopped working
    Dentist (3): Meta no longer accepts the token. Stopped working, found on 5 Jan 2026
    Hotel (4): The token works, but not for everything. Expires on 13 Mar 2026 (60 days)
day 8: 1 WhatsApp line needs attention
    Museum (9): Meta answered, but did not extend the token. Expires on 14 Jan 2026 (1 day)
day 9: 3 WhatsApp lines have stopped working
    Museum (9): Meta no longer accepts the token. Stopped working on 14 Jan 2026
    Dentist (3): Meta no longer accepts the token. Stopped working, found on 5 Jan 2026
    Cafe (2): Meta no longer accepts the token. Stopped working, found on 7 Jan 2026
day 10: 1 WhatsApp line has stopped working
    Dentist (3): Meta no longer accepts the token. Stopped working, found on 5 Jan 2026
day 11: 1 WhatsApp line has recovered
    Recovered: Hotel (4). No action needed.
day 13: 1 WhatsApp line has stopped working
    Cafe (2): Meta no longer accepts the token. Stopped working, found on 7 Jan 2026
day 15: 1 WhatsApp line has stopped working
    Cafe (2): Meta no longer accepts the token. Stopped working, found on 7 Jan 2026
day 16: 1 WhatsApp line has stopped working
    Cafe (2): Meta no longer accepts the token. Stopped working, found on 7 Jan 2026
day 20: 1 WhatsApp line has recovered
    Recovered: Cafe (2). No action needed.
day 31: WhatsApp token renewal stopped early
    Meta refuses the app (app_rejected): META_APP_SECRET is wrong
day 32: WhatsApp token renewal stopped early
    Meta refuses the app (app_rejected): META_APP_SECRET is wrong
day 41: not delivered, exit 1
day 42: 1 WhatsApp line has stopped working
    Library (7): Meta no longer accepts the token. Stopped working, found on 15 Feb 2026
day 52: 1 WhatsApp line has stopped working
    Library (7): Meta no longer accepts the token. Stopped working, found on 15 Feb 2026
day 54: 1 WhatsApp line has stopped working
    Library (7): Meta no longer accepts the token. Stopped working, found on 15 Feb 2026
day 55: 1 WhatsApp line has stopped working
    Library (7): Meta no longer accepts the token. Stopped working, found on 15 Feb 2026"""
