"""What must be true after every night: database, messages and exit codes, compared with the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from sandbox.graph import SimToken
from sandbox.year.application import Application, Entry, Row, Undecryptable
from sandbox.year.faults import Kind as Fault
from sandbox.year.fleet import Customer, Need, can_be_renewed, ends_at, is_due, need_of
from sandbox.year.meta import FailingMeta
from sandbox.year.receiver import Received

RENEWED: Final = "Token refreshed automatically"
STEPS: Final = tuple(timedelta(days=days) for days in (7, 3, 1, 0))
REMINDER: Final = timedelta(days=1)  # they count from the failure, and Slack may have been told days later
MOST_STARVED: Final = 3
MARGIN: Final = timedelta(minutes=10)  # a run takes a while, so on the edge of a day either is right
FOR_A_PERSON: Final = frozenset(str(need) for need in Need if need)
# What a message says of a line, and the reason that it means.
CAUSES: Final[Mapping[str, str]] = {
    "meta no longer accepts the token": Need.RECONNECT,
    "the token lacks a permission, or its data access expires soon": Need.PERMISSION,
    "the token works, but not for everything": Need.PERMISSION,
    "what the customer has allowed ends soon": Need.PERMISSION,
    "meta answered, but did not extend the token": Need.EXTENSION,
    "meta could not be reached": "unavailable",
    "meta gave an answer that this program does not know": "unexpected_answer",
}


@dataclass(frozen=True, slots=True)
class Evening:
    """One night: what was there before, what happened, and what is there now."""

    number: int
    now: datetime
    before: dict[int, Row]
    after: dict[int, Row]
    held: dict[int, str]  # the token of each line before the run
    audit: list[Entry]
    received: Received
    codes: list[int]  # of the runs; negative is the signal that killed one
    customers: dict[int, Customer]  # of each line
    connected: frozenset[int]  # lines that were reconnected while a run was at work
    is_down: bool
    is_refused: bool  # our app secret is not Meta's

    def failures(self, id_: int) -> set[str]:
        """Return for which reasons a line failed tonight."""
        entries = (one for one in self.audit if one.channel == id_ and one.event == "failed")
        return {one.reason or "" for one in entries}

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended a run."""
        return any(code < 0 or code > 128 for code in self.codes)

    @property
    def has_ended(self) -> bool:
        """Whether the runs ended by themselves, and Meta could be asked."""
        return not (self.was_killed or self.is_down or self.is_refused)

    @property
    def is_complete(self) -> bool:
        """Whether a run came to its end, and Meta could be asked: then nothing may be left undone."""
        return self.has_ended and all(code in {0, 1} for code in self.codes)


@dataclass(slots=True)
class Told:
    """What people were told of a line."""

    reason: str
    at: datetime
    root: str  # the token that the application had stored then


@dataclass(slots=True)
class Rules:
    """The rules, and what they have to remember from night to night. Each yields what is wrong."""

    meta: FailingMeta
    application: Application
    told: dict[int, Told] = field(default_factory=dict)
    was_lied_to: dict[int, bool] = field(default_factory=dict)  # when the line failed last
    unsure: set[int] = field(default_factory=set)  # told by a run that was killed before it could note it
    starved: Counter[int] = field(default_factory=Counter)  # due, and so many runs did not come to it
    expired: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    def check(self, evening: Evening) -> list[str]:
        """Return what is wrong after a night; an empty list if everything is as it must be."""
        tokens: dict[int, str] = {}
        wrong = list(self._stored(evening, tokens))
        if not wrong:
            wrong += self._renewals(evening, tokens)
            wrong += self._log(evening, tokens)
            wrong += self._messages(evening, tokens)
            wrong += self._in_time(evening, tokens)
            wrong += self._codes(evening)
        return wrong

    def _state(self, tokens: Mapping[int, str], id_: int) -> SimToken:
        return self.meta.token(tokens[id_])

    def _was_answered(self, evening: Evening, id_: int) -> bool:
        """Return whether Meta was asked about the token of a line, and its last answer was right."""
        token, night = evening.held.get(id_, ""), self.meta.tonight
        if len(evening.codes) > 1 and token in night.failed:  # perhaps in the run that wrote last
            return False
        return night.last.get(token, Fault.PASSING) is None

    def _stored(self, evening: Evening, tokens: dict[int, str]) -> Iterator[str]:
        """Check that each stored token decrypts, and comes from what the application stored last."""
        for id_, row in evening.after.items():
            try:
                tokens[id_] = self.application.decrypt(row.ciphertext)
            except Undecryptable:
                yield f"line {id_}: no key opens what is stored"
                continue
            customer = evening.customers[id_]
            if self.meta.customer(tokens[id_]) != customer.user_id:
                yield f"line {id_}: it holds a token that was not issued to it"
            elif customer.token not in self.meta.chain(tokens[id_]):
                yield f"line {id_}: the token that the application stored last was overwritten"

    def _renewals(self, evening: Evening, tokens: Mapping[int, str]) -> Iterator[str]:
        """Check that what was due and could be renewed was, and that no such token died."""
        now = self.meta.now()
        for id_, row in evening.after.items():
            token, kind = self._state(tokens, id_), evening.customers[id_].kind
            if not token.error and can_be_renewed(token, kind, 0) and token.death(now):
                yield from self._expired(id_, tokens[id_])
            if not is_due(token, now - MARGIN.total_seconds()) or id_ in evening.connected:
                self.starved[id_] = 0
            elif can_be_renewed(token, kind, now) and id_ in evening.held:
                was_asked = evening.held[id_] in self.meta.tonight.last
                self.starved[id_] += evening.has_ended and not was_asked
                if evening.is_complete and not was_asked:
                    yield f"line {id_}: it was due, and Meta was not asked about it"
                elif evening.is_complete and self._was_answered(evening, id_):
                    yield f"line {id_}: it was due, Meta answered, and it was not renewed"
            if evening.is_complete and row.lease is not None and row.lease > datetime.now(UTC):
                yield f"line {id_}: the claim on it was not given back"
            if evening.is_complete and self._is_known(evening, id_) and token.death(now) is None:
                yield from _wrong_expiry(row, ends_at(token))

    def _expired(self, id_: int, token: str) -> Iterator[str]:
        """Count a token that expired; it is lost if a run could have come to it and did not."""
        if token in self.expired:
            return
        self.expired.add(token)
        if self.starved[id_] > MOST_STARVED:
            yield f"line {id_}: its token expired, and {self.starved[id_]} runs had not come to it"
        self.counts["lost"] += self.starved[id_] > MOST_STARVED

    def _is_known(self, evening: Evening, id_: int) -> bool:
        """Return whether tonight's run must know the truth about the token that a line holds."""
        return self._was_answered(evening, id_) and id_ not in evening.connected

    def _log(self, evening: Evening, tokens: Mapping[int, str]) -> Iterator[str]:
        """Check that the audit log tells each renewal, failure and recovery."""
        entries: dict[int, list[Entry]] = {}
        for entry in evening.audit:
            entries.setdefault(entry.channel, []).append(entry)
        for id_, row in evening.after.items():
            before = evening.before.get(id_)
            if before is None or id_ in evening.connected:
                continue
            said = entries.get(id_, [])
            renewals = [entry for entry in said if entry.event == "refreshed"]
            self.counts["renewals"] += len(renewals)
            steps = list(self.meta.chain(tokens[id_])).index(evening.held[id_])
            if steps != len(renewals) or any(entry.message != RENEWED for entry in renewals):
                yield f"line {id_}: {steps} new tokens are stored, and the audit log tells {len(renewals)}"
            if renewals and renewals[-1].expires_at_after != row.expires_at:
                yield f"line {id_}: the audit log tells another expiry than the row"
            failures = [entry.reason for entry in said if entry.event == "failed"]
            if failures:
                self.was_lied_to[id_] = evening.held[id_] in self.meta.tonight.failed
            if row.reason and row.reason != before.reason and row.reason not in failures:
                yield f"line {id_}: it failed ({row.reason}), and the audit log does not tell it"
            if before.reason and not row.reason and "recovered" not in {entry.event for entry in said}:
                yield f"line {id_}: it is well again, and the audit log does not tell it"

    def _messages(self, evening: Evening, tokens: Mapping[int, str]) -> Iterator[str]:
        """Check that messages name the lines of which there is news, once, and say what is true."""
        for message in evening.received.messages:
            self.counts["messages"] += 1
            for id_, cause in message.causes.items():
                reason = CAUSES.get(cause, cause)
                if id_ in evening.after:
                    yield from self._named(evening, tokens, id_, reason)
                    self.told[id_] = Told(reason, evening.now, evening.customers[id_].token)
                    self.counts["named"] += 1
                    (self.unsure.add if evening.was_killed else self.unsure.discard)(id_)
            for id_ in message.recovered & set(evening.after):
                if id_ not in self.told and id_ not in self.unsure:
                    yield f"line {id_}: told that it is well again, and not that it had failed"
                if evening.after[id_].reason:
                    yield f"line {id_}: told that it is well again, and it is not"
                self.told.pop(id_, None)
                if evening.was_killed:
                    self.unsure.add(id_)

    def _named(self, evening: Evening, tokens: Mapping[int, str], id_: int, reason: str) -> Iterator[str]:
        """Tell what is wrong with one naming: no news, or not true."""
        told, row = self.told.get(id_), evening.after[id_]
        customer = evening.customers[id_]
        if told and told.root == customer.token and id_ not in self.unsure:
            before = evening.before.get(id_)
            ends = {one.expires_at for one in (row, before) if one}
            # It was another, of which people could not be told before it changed back.
            was = {before.reason if before else ""} | evening.failures(id_)
            is_news = bool(was & FOR_A_PERSON - {told.reason})
            is_news |= reason != told.reason and reason in FOR_A_PERSON
            is_news |= any(_crosses(end, told.at, evening.now, MARGIN) for end in ends)
            is_news |= None in ends and evening.now - told.at > REMINDER - MARGIN
            if not is_news:
                since = f"told of {told.reason} on {told.at:%d %b}"
                yield f"line {id_}: {since}, and of {reason} today: that is no news"
        is_asked_to_act = reason in FOR_A_PERSON
        need = need_of(self._state(tokens, id_), customer.kind, self.meta.now() + MARGIN.total_seconds())
        if is_asked_to_act and id_ not in evening.connected:
            customer.is_told = True
            if need is Need.NOTHING:
                self.counts["misled"] += 1
                if not self.was_lied_to.get(id_):
                    self.counts["false alarms"] += 1
                    yield f"line {id_}: told of {reason}, and its token is good"

    def _in_time(self, evening: Evening, tokens: Mapping[int, str]) -> Iterator[str]:
        """Check that each line that needs a person was named once that was known, and at each step."""
        if not evening.is_complete or evening.received.refused:
            return
        now = self.meta.now()
        for id_, row in evening.after.items():
            if id_ in evening.connected or id_ not in evening.held:
                continue
            token, kind = self._state(tokens, id_), evening.customers[id_].kind
            need = need_of(token, kind, now)
            told = self.told.get(id_)
            if not need or need is not need_of(token, kind, now - MARGIN.total_seconds()):
                continue
            if self._is_known(evening, id_) and row.reason != need:
                yield f"line {id_}: it needs a person ({need}), and the row says {row.reason or row.status}"
            if row.reason != need:
                continue
            if told is None or told.root != evening.customers[id_].token:
                yield f"line {id_}: it needs a person ({need}), and people were not told"
            elif _crosses(_as_time(ends_at(token)), told.at, evening.now, -MARGIN):
                yield f"line {id_}: {need} came nearer, and people were told on {told.at:%d %b} only"

    def _codes(self, evening: Evening) -> Iterator[str]:
        """Check that the exit code says whether there is news, and the heartbeat the same."""
        ended = Counter(str(code) for code in evening.codes if code >= 0)
        pings = Counter(ping for ping in evening.received.pings if ping != "start")
        if pings != ended:
            yield f"the exit codes are {dict(ended)}, and the heartbeat says {dict(pings)}"
        if evening.was_killed:
            return
        named = {id_ for message in evening.received.messages for id_ in message.causes}
        new = [id_ for id_ in named if id_ in evening.before and not evening.before[id_].reason]
        faults = self.meta.tonight.faults
        codes = set(evening.codes)
        if codes == {0} and (new or evening.received.refused):
            yield f"the exit code is 0, and there is news of the lines {new or '(not delivered)'}"
        # Of two runs at once, one may heal what the other found, before people are told.
        was_healed = len(evening.codes) > 1 and any(entry.event == "failed" for entry in evening.audit)
        if 1 in codes and not (named or evening.received.refused or was_healed):
            yield "the exit code is 1, and there is no news"
        if evening.is_refused and not evening.is_down and codes != {3}:
            yield f"Meta refuses the app, and the exit code is {codes}"
        has_cause = evening.is_down or evening.is_refused or faults.total() > 1 or faults[Fault.APP_LIMIT]
        if 3 in codes and not has_cause:
            yield "the run stopped early, and nothing was wrong with Meta"
        if codes - {0, 1, 3}:
            yield f"the exit code is {codes}"


def _wrong_expiry(row: Row, wanted: int | None) -> Iterator[str]:
    stored = row.expires_at.timestamp() if row.expires_at else 0
    if abs(stored - (wanted or 0)) >= 2:
        yield f"line {row.id}: the row says that it expires {row.expires_at}, and Meta {_as_time(wanted)}"


def _crosses(end: datetime | None, told_at: datetime, now: datetime, margin: timedelta) -> bool:
    """Return whether a step of days was crossed since people were told."""
    return end is not None and any(
        end - now <= step + margin and end - told_at > step - margin for step in STEPS
    )


def _as_time(unix: int | None) -> datetime | None:
    return None if unix is None else datetime.fromtimestamp(unix, UTC)
