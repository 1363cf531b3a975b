"""Who is told of what, and that everybody is told once: decided on values, and done on real databases."""

from __future__ import annotations

import threading
import uuid
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep

import pytest
import sqlalchemy as sa
from conftest import only_postgresql

from models import Channel, TableMap, fingerprint
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import DatabaseLost, StatementRefused
from whatsapp_tokens.database.url import parse_url
from whatsapp_tokens.delivery import DeliveryError
from whatsapp_tokens.policy import is_news
from whatsapp_tokens.reports import alerts
from whatsapp_tokens.reports.alert_message import Ended, Style
from whatsapp_tokens.reports.alerts import forget_recoveries, send_alerts
from whatsapp_tokens.results import Aborted, Failed, First, Reason, Tally

NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
ERROR = "reconnect_required: the session was invalidated"
STOPPED = Aborted("rate_limited", "too many calls")
NOTHING = Ended(Tally())


def days(count):
    return timedelta(days=count)


def channel(*, left=None, told=None, **fields):
    """A channel in `warning`, by the days that its token has left and those since people were told."""
    return Channel(
        id=1,
        name="Bakery",
        ciphertext="c",
        status="warning",
        error=ERROR,
        expires_at=None if left is None else NOW + days(left),
        alerted_at=None if told is None else NOW - days(told),
        **fields,
    )


# Is it news?


@pytest.mark.parametrize("left", [None, 40, 7, 0, -40])
def test_what_no_one_was_told_of_is_news(left):
    assert is_news(channel(left=left), NOW, {})


@pytest.mark.parametrize(
    ("left", "told", "news"),
    [
        # 7 days left are crossed
        (7.01, 1, False),
        (7, 1, True),
        (6.5, 1, True),
        (6.5, 0.5, False),
        (6.5, 0.25, False),
        # 3
        (3.01, 1, False),
        (3, 1, True),
        (2.5, 1, True),
        (2.5, 0.5, False),
        # 1
        (1.01, 1, False),
        (1, 1, True),
        (0.5, 1, True),
        (0.5, 0.5, False),
        # the day on which it expires
        (0.01, 0.5, False),
        (0, 0.5, True),
        (-0.5, 1, True),
        (-0.5, 0.5, False),
        # told after it expired, however long ago
        (-1, 0.5, False),
        (-100, 99, False),
        # told long ago: many steps crossed since are one piece of news
        (20, 300, False),
        (7, 300, True),
        (-100, 300, True),
        # told in the future, by a machine whose clock is wrong
        (2, -1, False),
        (-2, -1, False),
    ],
)
def test_what_people_know_of_is_news_when_it_comes_near_its_expiry(left, told, news):
    assert is_news(channel(left=left, told=told), NOW, {}) is news


@pytest.mark.parametrize("told", [0, 1, 300])
def test_what_has_no_known_end_is_told_once(told):
    assert not is_news(channel(told=told), NOW, {})


@pytest.mark.parametrize("expires_at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_an_infinite_expiry_does_no_harm(expires_at):
    assert not is_news(replace(channel(told=1), expires_at=expires_at), NOW, {})


@pytest.mark.parametrize(
    ("mark", "news"), [(None, True), (fingerprint("c"), True), (fingerprint("d"), False)]
)
def test_what_is_known_of_a_token_that_was_replaced_is_no_news(mark, news):
    assert is_news(channel(left=2, fingerprint=mark), NOW, {}) is news


@pytest.mark.parametrize(
    ("left", "every", "news"),
    [
        (15.5, 1, [0, 9, 13, 15, 16]),
        (15, 1, [0, 8, 12, 14, 15]),
        (6, 1, [0, 3, 5, 6]),
        (40, 1, [0]),
        (-3, 1, [0]),
        (None, 1, [0]),
        (15.5, 5, [0, 10, 15]),
        (15.5, 19, [0, 19]),
    ],
)
def test_in_twenty_days_of_runs_it_is_news_on_exactly_these(left, every, news):
    one, found = channel(left=left), []
    for day in range(0, 20, every):
        if is_news(one, NOW + days(day), {}):
            found.append(day)
            one = replace(one, alerted_at=NOW + days(day))
    assert found == news


# Sending, with a real database


class Recorder:
    """A target that remembers the messages that it took."""

    name = "recorder"
    capacity = 9000

    def __init__(self, *, works=None):
        self.messages = []
        self.is_broken = False
        self.works = works  # so many messages are taken

    def deliver(self, message):
        if self.is_broken or self.works == len(self.messages):
            raise DeliveryError("out of order")
        self.messages.append(message)

    @property
    def told(self):
        """The channels of each message."""
        return [
            [card.title for card in message.cards] + [line.partition(":")[0] for line in message.lines]
            for message in self.messages
        ]


@pytest.fixture
def target():
    return Recorder()


@pytest.fixture
def insert(rows):
    """Insert channels that need attention."""

    def insert_(name, **columns):
        columns = {
            "name": name,
            "wa_token_encrypted": f"ciphertext of {name}",
            "token_status": "warning",
            "token_error": ERROR,
            "token_expires_at": NOW + days(10),
        } | columns
        return rows.insert(**columns)

    return insert_


@pytest.fixture
def tell(database, target):
    """One run's alert, some days from now."""

    def tell_(day=0, ended=NOTHING):
        return send_alerts(database, [target], ended, NOW + days(day), Style())

    return tell_


def test_each_channel_is_told_once_and_the_next_run_is_silent(insert, tell, target, rows):
    first, second = insert("North"), insert("South")
    tell()
    tell(0.5)
    assert target.told == [["North (1)", "South (2)"]]
    assert [rows.get(id_)["token_alerted_at"] for id_ in (first, second)] == [NOW, NOW]
    assert [rows.get(id_)["token_lease_until"] for id_ in (first, second)] == [None, None]


def test_what_is_said_of_a_channel_is_read_from_its_row(insert, tell, target):
    insert("North")
    tell()
    (card,) = target.messages[0].cards
    assert card.lines == (
        "Meta no longer accepts the token: the session was invalidated",
        "Stopped working",
        "To do: the customer must connect WhatsApp again",
    )


def test_the_most_urgent_come_first(insert, tell, target):
    insert("later", token_expires_at=NOW + days(9))
    insert("dead", token_expires_at=NOW - days(9))
    insert("unknown", token_expires_at=None)
    insert("works", token_error="unavailable: x", token_expires_at=None)
    tell()
    assert target.told == [["unknown (3)", "dead (2)", "later (1)", "works (4)"]]


@pytest.mark.parametrize(
    "columns",
    [
        {"token_status": "ok", "token_error": None},
        {"token_status": None},
        {"token_status": "never_expires"},
        {"type": "telegram"},
        {"wa_token_encrypted": None},
        {"wa_token_encrypted": ""},
        {"token_fingerprint": fingerprint("another one")},
        {"token_lease_until": datetime(2999, 1, 1, tzinfo=UTC)},
        {"token_alerted_at": NOW - days(1)},
    ],
)
def test_of_other_channels_nothing_is_said(insert, tell, target, columns):
    insert("North", **columns)
    assert (tell(), target.messages) == ([], [])


def test_of_one_channel_people_hear_in_twenty_days_of_runs_on_exactly_these(insert, tell, target):
    insert("North", token_expires_at=NOW + days(15.5))
    heard = []
    for day in range(20):
        before = len(target.messages)
        tell(day)
        heard += [day] * (len(target.messages) - before)
    assert heard == [0, 9, 13, 15, 16]


def test_a_claim_that_ran_out_with_its_run_does_not_keep_a_channel_back(insert, tell, target):
    insert("North", token_lease_until=datetime(2020, 1, 1, tzinfo=UTC))
    tell()
    assert target.told == [["North (1)"]]


@pytest.mark.parametrize(("columns", "told"), [({}, 1), ({"token_alerted_at": None}, 2)])
def test_another_reason_is_told_if_whoever_wrote_it_cleared_the_mark(
    insert, tell, target, rows, columns, told
):
    id_ = insert("North")
    tell()
    rows.update(id_, token_error="missing_permission: a permission is missing", **columns)
    tell()
    assert len(target.messages) == told


def test_an_alert_that_was_not_delivered_is_sent_again(insert, tell, target, rows):
    id_ = insert("North")
    target.is_broken = True
    assert [str(error) for error in tell()] == ["out of order"]
    row = rows.get(id_)
    assert (row["token_alerted_at"], row["token_lease_until"]) == (None, None)
    target.is_broken = False
    assert (tell(), target.told) == ([], [["North (1)"]])


def test_an_alert_that_somebody_received_is_not_sent_again(insert, database, target, rows):
    id_ = insert("North")
    broken = Recorder()
    broken.is_broken = True
    errors = send_alerts(database, [broken, target], NOTHING, NOW, Style())
    assert ([str(error) for error in errors], target.told) == (["out of order"], [["North (1)"]])
    assert rows.get(id_)["token_alerted_at"] == NOW


def test_the_link_to_reconnect_is_on_each_card(insert, database, target):
    insert("North")
    send_alerts(
        database, [target], NOTHING, NOW, Style(reconnect_url="https://app.example/reconnect?id={channel_id}")
    )
    assert [card.link for card in target.messages[0].cards] == ["https://app.example/reconnect?id=1"]


def test_ids_may_be_text(insert, open_database, target, rows):
    rows.recreate(
        'id text PRIMARY KEY, "name" text, type text, wa_token_encrypted text, token_status text, '
        "token_error text, token_fingerprint text, token_expires_at timestamp, "
        "last_token_refresh_at timestamp, token_alerted_at timestamp, token_lease_until timestamp"
    )
    insert("North", id="cl/1 ü")
    for _ in range(2):
        send_alerts(
            open_database(), [target], NOTHING, NOW, Style(reconnect_url="https://app.example/{channel_id}")
        )
    (card,) = target.messages[0].cards
    assert (target.told, card.link) == ([["North (cl/1 ü)"]], "https://app.example/cl%2F1%20%C3%BC")


# Several runs


def test_a_channel_that_another_run_is_telling_of_is_left_to_it(insert, open_database, target, rows):
    id_ = insert("North")
    other = open_database()
    other.claims.claim_to_alert([id_])
    send_alerts(open_database(), [target], NOTHING, NOW, Style())
    assert target.messages == []
    assert rows.get(id_)["token_lease_until"] is not None


def test_a_channel_that_another_run_has_told_of_meanwhile_is_not_told_of_again(
    insert, open_database, target, rows, monkeypatch
):
    ids = [insert("North"), insert("South")]
    first, second = open_database(), open_database()
    to_tell_of = second.queries.to_tell_of

    def look_slowly(*place):
        found = list(to_tell_of(*place))
        send_alerts(first, [target], NOTHING, NOW, Style())
        return found

    monkeypatch.setattr(second.queries, "to_tell_of", look_slowly)
    send_alerts(second, [target], NOTHING, NOW, Style())
    assert target.told == [["North (1)", "South (2)"]]
    assert [rows.get(id_)["token_lease_until"] for id_ in ids] == [None, None]


def test_runs_in_parallel_tell_of_each_channel_once(insert, open_database):
    names = [f"Line {number}" for number in range(30)]
    expected = sorted(f"{name} ({insert(name)})" for name in names)
    targets = [Recorder() for _ in range(4)]
    barrier = threading.Barrier(len(targets))

    def run(database, target):
        barrier.wait()
        send_alerts(database, [target], NOTHING, NOW, Style())

    threads = [threading.Thread(target=run, args=(open_database(), target)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [title for target in targets for message in target.told for title in message]
    assert sorted(told) == expected


# What else there is to say


def test_a_run_that_stopped_always_says_so(tell, target):
    for _ in range(2):
        tell(ended=Ended(Tally(), stopped=STOPPED))
    assert [message.title for message in target.messages] == ["WhatsApp token renewal stopped early"] * 2


def test_a_run_that_stopped_names_the_channels_too(insert, tell, target):
    insert("North")
    tell(ended=Ended(Tally(), stopped=STOPPED))
    assert target.told == [["North (1)"]]


@pytest.mark.parametrize("status", ["ok", "never_expires", None])
def test_a_recovery_is_told_once_and_then_the_mark_is_gone(insert, tell, target, rows, status):
    id_ = insert("North", token_status=status, token_error=None, token_alerted_at=NOW - days(3))
    tell()
    tell()
    assert [(message.title, message.cards) for message in target.messages] == [
        ("1 WhatsApp line has recovered", ())
    ]
    row = rows.get(id_)
    assert (row["token_alerted_at"], row["token_lease_until"]) == (None, None)


def test_a_recovery_that_was_not_delivered_is_told_by_the_next_run(insert, tell, target):
    insert("North", token_status="ok", token_error=None, token_alerted_at=NOW - days(3))
    target.is_broken = True
    tell()
    target.is_broken = False
    tell()
    assert [message.title for message in target.messages] == ["1 WhatsApp line has recovered"]


def test_without_an_alert_target_a_recovery_only_removes_the_mark(insert, database, rows):
    well = insert("North", token_status="ok", token_error=None, token_alerted_at=NOW - days(3))
    ill = insert("South", token_alerted_at=NOW - days(3))
    forget_recoveries(database, NOW)
    assert [rows.get(id_)["token_alerted_at"] for id_ in (well, ill)] == [None, NOW - days(3)]


def test_rows_that_could_not_be_written_are_told_of_by_the_run(tell, target):
    refused = Failed(id=9, name="South", reason=Reason.WRITE_FAILED, detail="disk full")
    tell(ended=Ended(Tally(), unwritten=First([refused])))
    assert target.told == [["South (9)"]]


def test_a_run_with_nothing_to_say_is_silent(tell, target):
    assert (tell(), target.messages) == ([], [])


def test_without_a_target_nothing_is_marked_as_told(insert, database, rows):
    id_ = insert("North")
    assert send_alerts(database, [], Ended(Tally(), stopped=STOPPED), NOW, Style()) == []
    assert rows.get(id_)["token_alerted_at"] is None


# Without a database


@pytest.mark.parametrize(
    ("ended", "titles"),
    [
        (NOTHING, []),
        (Ended(Tally(), stopped=STOPPED), ["WhatsApp token renewal stopped early"]),
    ],
)
def test_without_a_database_only_the_end_of_the_run_is_told(target, ended, titles):
    assert send_alerts(None, [target], ended, NOW, Style()) == []
    assert [message.title for message in target.messages] == titles


def test_without_a_database_an_alert_that_is_not_delivered_is_an_error(target):
    target.is_broken = True
    errors = send_alerts(None, [target], Ended(Tally(), stopped=STOPPED), NOW, Style())
    assert [str(error) for error in errors] == ["out of order"]


class Failing:
    """A database with one channel to tell of, of which one method fails."""

    queries = claims = writer = property(lambda self: self)
    lease = 300

    def __init__(self, method, error):
        self.calls = []
        self.fails = (method, error)

    def call(self, name, result=None):
        self.calls.append(name)
        if name == self.fails[0]:
            raise self.fails[1]
        return result

    def to_remind_of(self, _now):
        return {}

    def down_since(self, _channels):
        return {}

    def to_tell_of(self, _soon, _reminders):
        return self.call("to_tell_of", [channel(left=2)])

    def claim_to_alert(self, _ids):
        return self.call("claim_to_alert", [channel(left=2)])

    def mark_alerted(self, _ids, _at):
        return self.call("mark_alerted")

    def release(self, ids):
        return self.call("release") if ids else None


@pytest.mark.parametrize("error", [DatabaseLost("gone"), StatementRefused("read-only")])
@pytest.mark.parametrize("method", ["to_tell_of", "claim_to_alert"])
def test_a_database_that_cannot_be_read_does_not_keep_the_rest_from_being_told(target, method, error):
    ended = Ended(Tally(), stopped=STOPPED)
    assert send_alerts(Failing(method, error), [target], ended, NOW, Style()) == []
    assert target.told == [[]]


@pytest.mark.parametrize("error", [DatabaseLost("gone"), StatementRefused("read-only")])
def test_a_database_that_is_lost_after_an_alert_is_no_error(target, error):
    database = Failing("mark_alerted", error)
    assert send_alerts(database, [target], NOTHING, NOW, Style()) == []
    assert (target.told, database.calls[-1]) == ([["Bakery (1)"]], "mark_alerted")


@pytest.mark.parametrize("error", [DatabaseLost("gone"), StatementRefused("read-only")])
def test_a_database_that_is_lost_after_a_failed_alert_is_no_further_error(target, error):
    target.is_broken = True
    database = Failing("release", error)
    errors = send_alerts(database, [target], NOTHING, NOW, Style())
    assert ([str(error) for error in errors], database.calls[-1]) == (["out of order"], "release")


def test_what_is_too_much_for_one_statement_is_told_of_by_the_next_run(insert, tell, target, monkeypatch):
    monkeypatch.setattr(alerts, "MOST_AT_ONCE", 2)
    for name in ("North", "South", "West"):
        insert(name)
    tell()
    tell()
    assert target.told == [["North (1)", "South (2)"], ["West (3)"]]


# In several messages


def test_forty_newly_bad_channels_are_all_named(insert, tell, target, rows):
    ids = [insert(f"Line {number}") for number in range(40)]
    tell()
    (told,) = target.told
    assert sorted(told) == sorted(f"Line {number} ({id_})" for number, id_ in enumerate(ids))
    assert all(rows.get(id_)["token_alerted_at"] == NOW for id_ in ids)


@pytest.mark.parametrize("works", [0, 1, 2])
def test_channels_of_a_message_that_was_not_delivered_are_told_of_by_the_next_run(
    insert, database, rows, works
):
    ids = [insert(f"{'x' * 150} {number}") for number in range(120)]
    first, second = Recorder(works=works), Recorder()
    errors = send_alerts(database, [first], NOTHING, NOW, Style())
    marked = [id_ for id_ in ids if rows.get(id_)["token_alerted_at"]]
    assert (len(errors), len(marked)) == (1, sum(map(len, first.told)))
    send_alerts(database, [second], NOTHING, NOW, Style())
    told = [name for recorder in (first, second) for message in recorder.told for name in message]
    assert (len(told), len(set(told))) == (120, 120)
    assert [id_ for id_ in ids if rows.get(id_)["token_lease_until"]] == []


def test_a_target_that_takes_no_page_does_not_keep_the_others_from_any(insert, database):
    for number in range(120):
        insert(f"{'x' * 150} {number}")
    broken, well = Recorder(works=1), Recorder()
    errors = send_alerts(database, [broken, well], NOTHING, NOW, Style())
    assert (len(errors), len(broken.told), sum(map(len, well.told))) == (1, 1, 120)


def test_recoveries_beyond_the_summary_are_told_of_once_too(insert, tell, target, rows):
    well = {"token_status": "ok", "token_error": None, "token_alerted_at": NOW - days(3)}
    ids = [insert(f"{'x' * 150} {number}", **well) for number in range(40)]
    tell()
    tell()
    (message,) = target.messages
    assert (message.summary.count("xxx (") + len(message.lines)) <= 40
    assert [id_ for id_ in ids if rows.get(id_)["token_alerted_at"]] == []


# While a target is slow


class Slow(Recorder):
    """A target that takes a message only when it is let go on."""

    def __init__(self):
        super().__init__()
        self.is_delivering = threading.Event()
        self.go_on = threading.Event()

    def deliver(self, message):
        self.is_delivering.set()
        assert self.go_on.wait(30)
        super().deliver(message)


def test_claims_are_extended_while_a_target_is_slow_so_one_run_alone_tells(insert, open_database, rows):
    id_ = insert("North")
    slow, other = Slow(), Recorder()
    first = threading.Thread(
        target=send_alerts,
        args=(open_database(lease=timedelta(seconds=2)), [slow], NOTHING, NOW, Style()),
    )
    first.start()
    assert slow.is_delivering.wait(30)  # else the other might be the first to claim
    try:
        until = monotonic() + 5
        while monotonic() < until:
            send_alerts(open_database(), [other], NOTHING, NOW, Style())
            sleep(0.1)
    finally:
        slow.go_on.set()
        first.join()
    assert (slow.told, other.told, rows.get(id_)["token_alerted_at"]) == ([["North (1)"]], [], NOW)


def test_a_row_whose_claim_was_lost_is_not_marked(insert, open_database, rows):
    id_ = insert("North")
    first, second = open_database(), open_database()
    first.claims.claim_to_alert([id_])
    rows.update(id_, token_lease_until=None)
    second.claims.claim_to_alert([id_])
    first.claims.mark_alerted([id_], NOW)
    row = rows.get(id_)
    assert (row["token_alerted_at"], row["token_lease_until"] is not None) == (None, True)


def test_where_no_thread_can_be_had_people_are_told_all_the_same(insert, tell, target, monkeypatch):
    def no_thread(*_):
        raise RuntimeError("can't start new thread")

    insert("North")
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    tell()
    assert target.told == [["North (1)"]]


# Reminders of a line that is down and whose token has no known expiry


@pytest.fixture
def down(insert, rows):
    """A line that is down since some days ago; with other rows of the audit log before and after that."""

    def down_(since, told, *events, reason="reconnect_required", **columns):
        id_ = insert("North", token_expires_at=None, token_alerted_at=NOW - days(told), **columns)
        for event, ago in (*events, ("failed", since)):
            rows.audited(id_, event, NOW - days(ago), reason=reason if event == "failed" else None)
        return id_

    return down_


@pytest.mark.parametrize(
    ("since", "told", "count"),
    [
        (6.9, 6.9, 0),
        (7, 7, 1),
        (7.5, 7.5, 1),
        (8, 0.9, 0),
        (29, 22, 0),
        (30, 23, 1),
        (30, 30, 1),
        (60, 29, 0),
        (400, 399, 1),
    ],
)
def test_a_line_that_is_down_without_a_known_expiry_comes_up_again_after_7_and_30_days(
    down, tell, target, since, told, count
):
    down(since, told)
    tell()
    tell()
    assert len(target.messages) == count


@pytest.mark.parametrize(
    ("events", "count"),
    [
        ([("failed", 40), ("refreshed", 20)], 0),  # another time
        ([("failed", 8)], 1),
        ([("failed", 8), ("recovered", 7.9)], 0),
        ([("failed", 9), ("set_by_hand", 8.5), ("failed", 8)], 1),
    ],
)
def test_the_days_count_from_the_first_failure_since_it_last_worked(down, tell, target, events, count):
    down(2, 5, *events)
    tell()
    assert len(target.messages) == count


@pytest.mark.parametrize(
    "columns",
    [
        {"token_error": "undecryptable: x"},
        {"token_fingerprint": "another"},
        {"token_status": "never_expires"},
    ],
)
def test_only_a_line_that_is_down_comes_up_again_without_a_known_expiry(down, tell, target, columns):
    down(8, 8, **columns)
    tell()
    assert [message for message in target.messages if message.cards] == []


def test_runs_in_parallel_remind_once(down, open_database, target, monkeypatch):
    down(8, 8)
    first, second = open_database(), open_database()
    to_tell_of = second.queries.to_tell_of

    def look_slowly(*place):
        found = list(to_tell_of(*place))
        send_alerts(first, [target], NOTHING, NOW, Style())
        return found

    monkeypatch.setattr(second.queries, "to_tell_of", look_slowly)
    send_alerts(second, [target], NOTHING, NOW, Style())
    assert target.told == [["North (1)"]]


def test_in_forty_days_of_runs_people_hear_of_it_on_exactly_these(insert, tell, target, rows):
    id_ = insert("North", token_expires_at=None)
    rows.audited(id_, "failed", NOW, reason="reconnect_required")
    heard = []
    for day in range(40):
        before = len(target.messages)
        tell(day)
        heard += [day] * (len(target.messages) - before)
    assert heard == [0, 7, 30]


@only_postgresql
def test_a_role_that_may_not_read_the_audit_log_tells_all_the_same(down, insert, target, rows, database_url):
    down(8, 8)
    insert("South")
    role = f"role_{uuid.uuid4().hex[:12]}"
    rows.run(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
    rows.run(f'GRANT SELECT, UPDATE ON "Channel" TO {role}; GRANT INSERT ON token_audit_log TO {role}')
    url = sa.engine.make_url(database_url).set(username=role, password=role)
    try:
        with closing(
            Database(parse_url(url.render_as_string(hide_password=False)), TableMap(), lease=days(1))
        ) as database:
            assert send_alerts(database, [target], NOTHING, NOW, Style()) == []
    finally:
        rows.run(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert target.told == [["South (2)"]]
