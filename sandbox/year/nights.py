"""The nights: a day passes, the job runs, and what it left is checked against the rules."""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Final

from sandbox.graph import Seen
from sandbox.year import job
from sandbox.year.application import Application, Row
from sandbox.year.fleet import Fleet
from sandbox.year.killer import Killer
from sandbox.year.meta import FailingMeta, Night
from sandbox.year.plan import Plan
from sandbox.year.receiver import PING, SLACK, Received, Receiver
from sandbox.year.rules import Evening, Rules

START: Final = datetime(2026, 1, 5, 4, 37, tzinfo=UTC)
SHARE: Final = 0.2  # of Meta's answers are wrong
LONGEST_RUN: Final = 600  # seconds; then something hangs
SHOWN: Final = 20  # broken invariants


@dataclass(slots=True)
class Year:
    """A year that is being played."""

    channels: int
    seed: int
    nights: int
    url: str
    folder: Path
    people: Receiver
    counts: Counter[str] = field(default_factory=Counter)
    now: datetime = START
    meta: FailingMeta = field(init=False)
    application: Application = field(init=False)
    fleet: Fleet = field(init=False)
    rules: Rules = field(init=False)
    plan: Plan = field(init=False)
    _woke: float = field(default_factory=monotonic)
    _secret: str = field(init=False)
    _audited: int = 0
    _new_key: int | None = None  # the night on which the key was changed

    def __post_init__(self) -> None:
        """Start Meta and let customers connect."""
        self.meta = FailingMeta(self.seed, lambda: self.now.timestamp() + monotonic() - self._woke)
        self.application = Application(self.url)
        if self.application.count():
            raise SystemExit("the database is not empty: a year is played in one that nothing else uses")
        self.fleet = Fleet(self.meta, self.application, random.Random(f"fleet {self.seed}"))
        self.rules = Rules(self.meta, self.application)
        at_once = not self.application.is_sqlite
        self.plan = Plan.make(self.seed, self.nights, at_once=at_once, channels=self.channels)
        self._secret = self.meta.app_secret
        self.meta.start()
        self.fleet.fill(self.channels, START.timestamp())

    def close(self) -> None:
        """Stop Meta and close the connections. Raise what went wrong in one of Meta's threads."""
        self.application.close()
        self.meta.__exit__(None, None, None)

    def play(self) -> list[str]:
        """Play all nights, or up to one that breaks a rule, and print the figures. Return what is broken."""
        began = monotonic()
        broken: list[str] = []
        for night in range(self.nights):
            broken = self.night(night)
            if sys.stderr.isatty():
                print(f"\r{self.now:%d %b %Y}", end="\r", file=sys.stderr, flush=True)
            if broken:
                day = self.now.date()
                print(f"Night {night} ({day}), seed {self.seed}: {len(broken)} invariants are broken:")
                print(*broken[:SHOWN], sep="\n")
                break
        self._print(monotonic() - began)
        return broken

    def night(self, night: int) -> list[str]:
        """Let a day pass, run the job, and return what is wrong."""
        self.now, self._woke = START + timedelta(days=night), monotonic()
        self.meta.number = night
        self.fleet.live(night, self.now.timestamp(), self._stored(self.application.rows()))
        self.application.let_leases_pass(timedelta(days=1))
        self._change_secrets(night)
        if night in self.plan.off:
            self.counts["off"] += 1
            return []
        before = self.application.rows()
        self.fleet.connected.clear()
        self.people.tonight = Received(refuses=night in self.plan.deaf)
        self.meta.tonight = Night(share=SHARE, is_down=night in self.plan.down)
        codes = self._run(night)
        audit = self.application.audit(self._audited)
        self._audited = audit[-1].id if audit else self._audited
        evening = Evening(
            night,
            self.now,
            before,
            self.application.rows(),
            self._stored(before),
            audit,
            self.people.tonight,
            codes,
            self.fleet.of_line(),
            frozenset(self.fleet.connected),
            is_down=night in self.plan.down,
            is_refused=self._secret != self.meta.app_secret,
        )
        self._count(evening)
        return self.rules.check(evening)

    def _stored(self, rows: dict[int, Row]) -> dict[int, str]:
        """Return the token of each line."""
        return {id_: self.application.decrypt(row.ciphertext) for id_, row in rows.items()}

    def _change_secrets(self, night: int) -> None:
        """Let Meta's app secret and the application's key change, and the operator follow."""
        if night in self.plan.secrets:
            self.meta.app_secret = f"sandbox-app-secret-of-night-{night}"
        if night in self.plan.secrets.values():
            self._secret = self.meta.app_secret
        keys = self.application.keys
        if night in self.plan.keys:
            keys.insert(0, os.urandom(32))
            self.counts["keys"] += 1
        elif len(keys) > 1:
            stored = [row.ciphertext for row in self.application.rows().values()]
            if not self.application.uses_last_key(stored):
                self.application.drop_last_key()
                self.counts["keys dropped"] += 1

    def _run(self, night: int) -> list[int]:
        """Run the job, twice at once on some nights, and kill it on others. Return the exit codes."""
        options = ["--audit", "--yes"] if self.plan.is_audit(night) else []
        environment = {
            "DATABASE_URL": self.url,
            "META_APP_ID": self.meta.app_id,
            "META_APP_SECRET": self._secret,
            "META_GRAPH_URL": self.meta.url,
            "META_RETRY_WAIT_SECONDS": "0",
            "RATE_LIMIT_WAIT_SECONDS": "1",
            "TOKEN_ENCRYPTION_KEY": ",".join(key.hex() for key in self.application.keys),
            "SLACK_WEBHOOK_URL": f"{self.people.url}{SLACK}",
            "HEALTHCHECK_URL": f"{self.people.url}{PING}",
            "NO_PROXY": "127.0.0.1",
        }
        count = 2 if night in self.plan.doubled else 1
        killer = Killer(self.plan.kills.get(night))
        self.meta.on_request = lambda seen: self._asked(seen, killer)
        self.people.on_alert = killer.alerted
        runs = [
            job.start(number, environment, self.now.timestamp(), options, self.folder)
            for number in range(count)
        ]
        killer.watch(runs)
        for run in runs:
            run.join(LONGEST_RUN)
            if run.exitcode is None:
                run.kill()
                raise TimeoutError(f"the run of night {night} hangs")
        self.fleet.rest()
        return [run.exitcode or 0 for run in runs]

    def _asked(self, seen: Seen, killer: Killer) -> None:
        killer.called()
        self.fleet.on_request(seen)

    def _count(self, evening: Evening) -> None:
        self.counts["down"] += evening.is_down
        self.counts["refused"] += evening.is_refused
        self.counts["killed"] += evening.was_killed
        self.counts["stopped"] += 3 in evening.codes and evening.has_ended
        self.counts["doubled"] += len(evening.codes) > 1
        if not evening.is_down:
            self.counts["calls"] += self.meta.tonight.calls
            self.counts["faults"] += self.meta.tonight.faults.total()
        self.counts["reconnects in a run"] += len(evening.connected)

    def _print(self, seconds: float) -> None:
        found, rules = self.counts, self.rules.counts
        name = "SQLite" if self.application.is_sqlite else "PostgreSQL"
        share = found["faults"] / max(found["calls"], 1)
        print(
            f"{self.nights} nights, {self.channels} channels, seed {self.seed}, {name}, {seconds:.0f} s",
            f"nights        {found['down']} Meta down, {found['off']} job off, {found['refused']} refused,"
            f" {found['killed']} killed, {found['stopped']} stopped early, {found['doubled']} with two runs",
            f"Meta          {found['calls']} calls while it was up, {share:.0%} of them answered wrongly",
            f"renewals      {rules['renewals']}, of {len(self.meta.exchanges)} exchanges",
            f"lost          {rules['lost']}; {len(self.rules.expired)} more could not be renewed in time",
            f"false alarms  {rules['false alarms']}; {rules['misled']} more by wrong answers of Meta",
            f"messages      {rules['messages']}, which name {rules['named']} lines",
            f"reconnects    {found['reconnects in a run']} in the middle of a run",
            f"keys          {found['keys']} new, {found['keys dropped']} old ones removed",
            sep="\n",
        )
