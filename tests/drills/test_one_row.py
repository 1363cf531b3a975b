"""One row, and in any order: two runs, the application, and a clock that lets leases pass.

Hypothesis looks for an order in which a token is lost, a stale result is written, or the log tells a lie.
"""

from __future__ import annotations

from datetime import timedelta

from channels import EXPIRES_SOON, NOW, WELL, renewal_of, select, warning_of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from whatsapp_tokens.database.writes import WriteResult

RUNS = st.integers(0, 1)


class OneRow(RuleBasedStateMachine):
    """A row that is new in each game. The database is the same in all."""

    rows = databases = None  # of the test

    @initialize()
    def connect(self):
        for table in ('"Channel"', "token_audit_log"):  # SQLite gives an id again
            self.rows.run(f"DELETE FROM {table}")
        self.id = self.rows.insert(**WELL | EXPIRES_SOON)
        self.stored = "stored"  # what the row must hold; None once it is deleted
        self.held = [None, None]  # what each run read when it claimed the row
        self.leases = [None, None]
        self.live = [False, False]  # whether the run's lease has not passed
        self.results = 0
        self.renewals = 0
        for database in self.databases:
            database.claims.forget(list(database.claims._leases))

    def row(self):
        return self.rows.get(self.id)

    def let_go(self, run):
        self.held[run] = self.leases[run] = None
        self.live[run] = False

    @rule(run=RUNS)
    def claim(self, run):
        found = self.databases[run].claims.claim(select(), [self.id])
        if not found:
            return
        assert self.live == [False, False]
        assert found[0].ciphertext == self.stored
        self.held[run], self.leases[run] = found[0], self.row()["token_lease_until"]
        self.live[run] = True

    @rule(run=RUNS)
    def renew(self, run):
        channel = self.held[run]
        if channel is None:
            return
        self.results += 1
        new = f"renewed-{self.results}"
        ((result, _words),) = self.databases[run].writer.write([renewal_of(channel, new)])
        if self.stored is not None and channel.ciphertext == self.stored:
            assert result is WriteResult.WRITTEN
            self.stored, self.renewals = new, self.renewals + 1
        else:
            assert result is WriteResult.REPLACED
        self.let_go(run)

    @rule(run=RUNS)
    def fail(self, run):
        channel = self.held[run]
        if channel is None:
            return
        mine = self.stored is not None and self.row()["token_lease_until"] == self.leases[run]
        ((result, _words),) = self.databases[run].writer.write([warning_of(channel)])
        if self.stored is None or channel.ciphertext != self.stored:
            assert result is WriteResult.REPLACED
        elif mine:
            assert result is WriteResult.WRITTEN
        else:  # unless the row says the same already
            assert result in {WriteResult.TAKEN, WriteResult.WRITTEN}
        self.let_go(run)

    @rule(run=RUNS)
    def release(self, run):
        self.databases[run].claims.release([self.id])
        self.let_go(run)

    @rule(run=RUNS)
    def extend(self, run):
        self.databases[run].claims.extend()
        if self.held[run] is not None and self.stored is not None:
            self.leases[run] = self.databases[run].claims.lease_of(self.id)
            self.live[run] = self.row()["token_lease_until"] == self.leases[run]

    @rule(run=RUNS)
    def tell(self, run):
        if self.held[run] is not None:
            return
        claimed = self.databases[run].claims.claim_to_alert([self.id])
        assert not (claimed and any(self.live))
        self.databases[run].claims.mark_alerted([one.id for one in claimed], NOW)
        assert self.databases[run].claims.lease_of(self.id) is None

    @rule()
    def reconnect(self):
        if self.stored is not None:
            self.results += 1
            self.stored = f"of the application {self.results}"
            self.rows.update(self.id, wa_token_encrypted=self.stored)

    @rule()
    def let_the_leases_pass(self):
        self.rows.run(
            'UPDATE "Channel" SET token_lease_until = :past WHERE token_lease_until IS NOT NULL',
            past=self.rows._out(self.rows.clock() - timedelta(seconds=1)),
        )
        self.live = [False, False]

    @rule()
    def delete(self):
        if self.stored is not None and self.results > 6:
            self.rows.run('DELETE FROM "Channel" WHERE id = :id', id=self.id)
            self.stored = None

    @invariant()
    def the_row_holds_the_last_token_that_was_written(self):
        if getattr(self, "stored", None) is not None:
            assert self.row()["wa_token_encrypted"] == self.stored

    @invariant()
    def the_log_tells_every_renewal_once(self):
        if hasattr(self, "id"):
            events = [entry["event"] for entry in self.rows.audit(self.id)]
            assert events.count("refreshed") == self.renewals


def test_no_order_of_two_runs_and_the_application_loses_a_token(rows, open_database):
    game = type("Game", (OneRow,), {"rows": rows, "databases": [open_database(), open_database()]})
    run_state_machine_as_test(game, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))
