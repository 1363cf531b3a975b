"""Several runs on one PostgreSQL at once, each a process of its own, under bad conditions.

Every token must end valid, and none may be exchanged twice unless its claim was killed or ran out.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import only_postgresql
from world import ROOT, days, fernet

from sandbox.graph import Slow
from whatsapp_tokens.database.url import parse_url

pytestmark = only_postgresql

LONG = 60  # seconds after which something hangs


def poll(condition):
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def ends(processes):
    """The exit codes, once all have ended; what they said is shown if the test fails."""
    for process in processes:
        out, err = process.communicate(timeout=LONG)
        print(out, err, sep="\n")
    return [process.returncode for process in processes]


def exchanged_twice(world):
    return [old for old, times in Counter(old for old, _ in world.meta.exchanges).items() if times > 1]


def ends_well(world, ids):
    """Whether each row holds a token that lives for long, says so, and is claimed by no run."""
    for id_ in ids:
        row = world.rows.get(id_)
        assert world.meta.alive(world.stored(id_))
        assert (row["token_status"], row["token_lease_until"]) == ("ok", None)
        assert row["token_expires_at"] > world.now + days(50)
    return True


@pytest.fixture
def crowd(world):
    world.meta.latency = 0.05
    world.env["WORKERS"] = "4"
    return world


def test_eight_runs_at_once_exchange_each_token_once(crowd):
    ids = [crowd.channel() for _ in range(60)]
    codes = ends([crowd.start("--quiet") for _ in range(8)])
    assert (codes, exchanged_twice(crowd), len(crowd.meta.exchanges)) == ([0] * 8, [], 60)
    assert ends_well(crowd, ids)


def test_what_another_run_holds_is_told_and_is_no_failure(crowd):
    id_ = crowd.channel()
    crowd.rows.run("UPDATE \"Channel\" SET token_lease_until = now() + interval '5 minutes'")
    result = crowd.json()
    assert (result.code, result.told(id_)) == (0, ("skipped", "claimed_elsewhere"))
    assert crowd.meta.exchanges == []


def test_what_a_killed_run_held_is_free_when_its_lease_ends(crowd):
    crowd.env["LEASE_SECONDS"] = "1"
    ids = [crowd.channel() for _ in range(20)]
    victim = crowd.start("--quiet")
    poll(lambda: len(crowd.meta.exchanges) >= 3)
    victim.send_signal(signal.SIGKILL)
    assert ends([victim]) == [-signal.SIGKILL]
    held = 'SELECT count(*) FROM "Channel" WHERE token_lease_until > now()'
    poll(lambda: crowd.rows.scalar(held) == 0)
    assert ends([crowd.start("--quiet") for _ in range(2)]) == [0, 0]
    assert ends_well(crowd, ids)
    assert len(exchanged_twice(crowd)) <= 4  # no more than it had workers


def test_clocks_that_are_a_minute_apart_do_not_matter(crowd):
    ids = [crowd.channel() for _ in range(30)]
    code = (
        "import sys; from datetime import timedelta; import refresh_tokens; right = refresh_tokens.now; "
        "refresh_tokens.now = lambda: right() + timedelta(seconds={}); sys.exit(refresh_tokens.main())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code.format(seconds), *crowd.arguments("--quiet")],
            cwd=ROOT,
            env=crowd.environment() | {"LEASE_SECONDS": "10"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seconds in (-30, 30)
    ]
    assert (ends(processes), exchanged_twice(crowd), len(crowd.meta.exchanges)) == ([0, 0], [], 30)
    assert ends_well(crowd, ids)


def test_no_transaction_is_open_while_meta_is_called(crowd):
    id_ = crowd.channel()
    idle = (
        "SELECT count(*) > 0 AND count(xact_start) = 0 FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'whatsapp-token-refresh'"
    )
    calls = []

    def wait_until_idle(seen):
        poll(lambda: crowd.rows.scalar(idle))
        calls.append(seen.endpoint)

    crowd.meta.on_request = wait_until_idle
    assert crowd.json().told(id_) == ("renewed", None)
    assert calls == ["debug_token", "exchange", "debug_token"]


def test_a_late_finisher_does_not_overwrite_what_another_run_stored(crowd):
    """The first run is stopped for longer than its lease, as a machine that sleeps is."""
    crowd.env["LEASE_SECONDS"] = "1"
    token = crowd.token()
    id_ = crowd.channel(token)
    crowd.meta.script(token, None, Slow(1), endpoint="exchange")
    late = crowd.start("--json")
    poll(lambda: crowd.meta.count("debug_token", token))
    late.send_signal(signal.SIGSTOP)
    poll(lambda: crowd.rows.scalar('SELECT token_lease_until < now() FROM "Channel"'))
    assert crowd.json().told(id_) == ("renewed", None)
    stored = crowd.stored(id_)
    late.send_signal(signal.SIGCONT)
    out, _ = late.communicate(timeout=LONG)
    assert (late.returncode, '"replaced_meanwhile"' in out) == (0, True)
    assert (crowd.stored(id_), ends_well(crowd, [id_])) == (stored, True)


def test_an_application_that_writes_all_the_time_keeps_its_tokens(crowd):
    """It stores new tokens in half of the rows while four runs work on all of them."""
    ids = [crowd.channel() for _ in range(40)]
    own = {id_: crowd.token(age=0, lives=60) for id_ in ids[::2]}
    done = threading.Event()

    def connect():
        for id_, token in own.items():
            crowd.rows.update(id_, wa_token_encrypted=fernet().encrypt(token.encode()).decode())
            for other in ids[1::2]:
                crowd.rows.update(other, name=f"renamed {time.monotonic()}")
        done.set()

    application = threading.Thread(target=connect)
    application.start()
    codes = ends([crowd.start("--quiet") for _ in range(4)])
    application.join()
    assert (codes, done.is_set()) == ([0] * 4, True)
    assert ends([crowd.start("--quiet")]) == [0]  # which sees what was stored last
    successors = {new: old for old, new in crowd.meta.exchanges}
    held = {id_: crowd.stored(id_) for id_ in own}
    assert [id_ for id_, token in held.items() if own[id_] not in (token, successors.get(token))] == []
    assert ends_well(crowd, ids)


# Behind PgBouncer


@contextmanager
def bouncer(url, folder):
    """A PgBouncer in transaction mode, with two connections to the server for all; gives its URL."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed")
    target = parse_url(url).url
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = f"host={target.query.get('host') or target.host} port={target.port or 5432}"
    if target.password:
        server += f" password={target.password}"
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n{target.database} = {server} user={target.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 50\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    command = [program, str(config)]
    if os.geteuid() == 0:  # it refuses to be root, and only its owner may go where the server's socket is
        host = Path(str(target.query.get("host")))
        command[1:1] = ["-u", host.owner() if host.is_dir() else "nobody"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    through = target.set(
        drivername="postgresql", host="127.0.0.1", port=port, password=None, query={}
    ).render_as_string(hide_password=False)
    engine = sa.create_engine(parse_url(through).url, poolclass=sa.NullPool)

    def answers():
        assert process.poll() is None, process.stdout.read()
        try:
            with engine.connect():
                return True
        except sa.exc.OperationalError as error:
            print(error)
            return False

    try:
        poll(answers)
        yield through
    finally:
        process.kill()
        process.communicate()


def test_several_runs_work_through_pgbouncer_in_transaction_mode(crowd, tmp_path):
    ids = [crowd.channel() for _ in range(30)]
    with bouncer(crowd.url, tmp_path) as through:
        crowd.env["DATABASE_URL"] = f"{through}?pgbouncer=true"
        crowd.env["LEASE_SECONDS"] = "3"
        codes = ends([crowd.start("--quiet") for _ in range(4)])
    assert (codes, exchanged_twice(crowd), len(crowd.meta.exchanges)) == ([0] * 4, [], 30)
    assert ends_well(crowd, ids)
