"""Reaching a database: what people paste as its URL, and what every kind of error is called."""

from __future__ import annotations

import socket
import sqlite3
import struct
import threading
from contextlib import closing, contextmanager, suppress
from time import monotonic

import pytest
import sqlalchemy as sa
from conftest import only_postgresql, only_sqlite
from refusing_server import Refusing, fatal
from sqlalchemy.dialects.postgresql.base import PGDialect
from tls import certificate, tls_context

from whatsapp_tokens.database import connection as module
from whatsapp_tokens.database import deadlines
from whatsapp_tokens.database.connection import Connection
from whatsapp_tokens.database.deadlines import Deadline, Expired
from whatsapp_tokens.database.errors import BadUrl, DatabaseLost, LockTimeout, StatementRefused
from whatsapp_tokens.database.url import parse_url, warning_of
from whatsapp_tokens.signals import Interrupted, Stop

PASSWORD = "s3cr3t-of-mine"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(module, "RETRY_SECONDS", 1)
    monkeypatch.setattr(module, "BUSY_SECONDS", 0)


@pytest.fixture
def connection(database_url):
    with closing(Connection(parse_url(database_url))) as opened:
        yield opened


def ask(connection, sql, **options):
    return connection.run(lambda c, _: c.execute(sa.text(sql)).scalar(), **options)


def error_of(kind, url, sql="SELECT 1"):
    """The words with which a database that is opened and asked something ends in an error of this kind."""
    with pytest.raises(kind) as raised, closing(Connection(parse_url(url))) as connection:
        ask(connection, sql)
    return str(raised.value)


# The URL


@pytest.mark.parametrize(
    "pasted",
    [
        "postgres://app:pw@db.example:6432/shop",
        "postgresql://app:pw@db.example:6432/shop",
        "postgresql+psycopg://app:pw@db.example:6432/shop",
        "postgresql+asyncpg://app:pw@db.example:6432/shop",
        "  postgresql://app:pw@db.example:6432/shop\n",
    ],
)
def test_every_spelling_of_postgresql_is_the_driver_that_we_have(pasted):
    expected = "postgresql+psycopg2://app:pw@db.example:6432/shop"
    assert parse_url(pasted).url.render_as_string(hide_password=False) == expected


@pytest.mark.parametrize(
    ("query", "kept", "schema", "ignored"),
    [
        ("", {}, None, ()),
        ("?schema=sales", {}, "sales", ()),
        ("?schema=", {}, None, ()),
        (
            "?schema=sales&connection_limit=5&pgbouncer=true&pool_timeout=0",
            {},
            "sales",
            (),
        ),
        ("?poolsize=5&applicationName=app", {}, None, ("applicationName", "poolsize")),
        (
            "?sslmode=require&sslrootcert=/ca.pem&connect_timeout=3",
            {"sslmode": "require", "sslrootcert": "/ca.pem", "connect_timeout": "3"},
            None,
            (),
        ),
        ("?sslmode=no-verify", {"sslmode": "require"}, None, ()),
        ("?ssl=true&sslaccept=strict", {"sslmode": "require"}, None, ()),
        ("?sslmode=verify-full&ssl=true", {"sslmode": "verify-full"}, None, ()),
        ("?host=/var/run/postgresql", {"host": "/var/run/postgresql"}, None, ()),
    ],
)
def test_options_of_libpq_are_kept_those_of_prisma_left_out_and_others_named(query, kept, schema, ignored):
    found = parse_url(f"postgresql://app@db.example/shop{query}")
    assert (dict(found.url.query), found.schema, found.ignored) == (kept, schema, ignored)


def test_the_path_of_a_socket_may_stand_encoded_in_place_of_the_host():
    url = parse_url("postgresql://app:pw@%2Fvar%2Frun%2Fpostgresql/shop").url
    (_, given) = url.get_dialect()().create_connect_args(url)
    assert given == {"host": "/var/run/postgresql", "user": "app", "password": "pw", "dbname": "shop"}


@pytest.mark.parametrize(
    "pasted",
    [
        "postgresql://db.example/shop?user=app&password=pw",
        "postgresql://db.example/?user=app&password=pw&dbname=shop",
        "postgresql://other:else@db.example/shop?user=app&password=pw",
        '"postgresql://app:pw@db.example/shop"',
        "'postgresql://app:pw@db.example/shop'\n",
    ],
)
def test_who_connects_may_stand_in_the_parameters_and_the_whole_in_quotes(pasted):
    expected = "postgresql+psycopg2://app:pw@db.example/shop"
    assert parse_url(pasted).url.render_as_string(hide_password=False) == expected


def test_unknown_parameters_are_named_and_what_may_be_half_a_password_is_not():
    known = "connection_limit=5&sslmode=require"
    told = warning_of(parse_url(f"postgresql://app:pw@db.example/shop?{known}&foo=1&s3cr3t%2Fof-mine=2"))
    assert told == "DATABASE_URL: foo, a parameter is not known and is ignored"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a%40b", "a@b"),
        ("a%2Fb%3Fc%23d%25e", "a/b?c#d%e"),
        ("a/b", "a/b"),
        ("a?b", "a?b"),
        ("a#b", "a#b"),
        ("a:b", "a:b"),
        ("a%b", "a%b"),
        ("ñ€", "ñ€"),
        ("", ""),
    ],
)
def test_a_password_may_be_encoded_and_most_characters_need_not_be(written, meant):
    url = parse_url(f"postgresql://app:{written}@db.example/shop").url
    assert (url.password, url.host, url.database) == (meant, "db.example", "shop")


@pytest.mark.parametrize(
    ("text", "file", "ignored"),
    [
        ("sqlite:///channels.db", "channels.db", ()),
        ("sqlite:////srv/channels.db", "/srv/channels.db", ()),
        ("sqlite+pysqlite:////srv/a@b/100%25.db", "/srv/a@b/100%.db", ()),
        ("sqlite:///channels.db?timeout=abc&mode=ro", "channels.db", ("mode", "timeout")),
    ],
)
def test_sqlite_is_a_file_and_nothing_else(text, file, ignored):
    found = parse_url(text)
    assert (found.url.drivername, found.url.database, dict(found.url.query), found.ignored) == (
        "sqlite",
        file,
        {},
        ignored,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must begin with postgresql:// or sqlite:///"),
        ("shop", "must begin with"),
        (f"mysql://app:{PASSWORD}@db.example/shop", "must begin with"),
        (f"postgresql:/app:{PASSWORD}@db.example/shop", "must begin with"),
        (f"DATABASE_URL=postgresql://app:{PASSWORD}@db.example/shop", "must begin with"),
        ("file:./dev.db", "must begin with"),
        (f"postgresql://app:{PASSWORD}@db.example:port/shop", "not a valid URL"),
        (f"postgresql://app:{PASSWORD}@one:1,two:2/shop", "not a valid URL"),
        (f"postgresql://app:{PASSWORD}@{PASSWORD}@db.example/shop", "must be written as %40"),
        (f"postgresql://app:{PASSWORD}@{PASSWORD}/x@db.example/shop", "must be written as %40"),
        (f"postgresql://app:{PASSWORD}@{PASSWORD}#x@db.example/shop", "must be written as %40"),
        (f"postgresql://app:{PASSWORD}@db.example", "names no database"),
        (f"postgresql://app:{PASSWORD}@db.example/", "names no database"),
        (f"postgresql://app:{PASSWORD}@db.example/?schema=x", "names no database"),
        (f"postgresql://app:{PASSWORD}@db.example/shop?schema=a&schema=b", "it gives schema more than once"),
        (f"postgresql://app:{PASSWORD}@db.example/shop?port=x", "a port is a number"),
        (f"postgresql://app:{PASSWORD}@db.example/shop?port=1,2", "a port is a number"),
        (f"postgresql://app:{PASSWORD}@db.example/shop?host=one:x&host=two:1", "a port is a number"),
        (f"postgresql://app:{PASSWORD}%00@db.example/shop", "a null character"),
        (f"postgresql://app:{PASSWORD}@db.example/shop?schema=a%00b", "a null character"),
        (f"postgresql://app:{PASSWORD}\0@db.example/shop", "a null character"),
        ("sqlite:///channels%00.db", "a null character"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://channels.db", "names no file"),
        ("sqlite://folder/channels.db", "names no file"),
    ],
)
def test_what_cannot_be_meant_is_refused_without_repeating_it(text, words):
    with pytest.raises(BadUrl) as raised:
        parse_url(text)
    assert (words in str(raised.value), PASSWORD in repr(raised.value)) == (True, False)


def test_a_url_shows_no_password(database_url):
    found = parse_url(f"postgres://app:{PASSWORD}@db.example/shop?schema=a&password={PASSWORD}")
    assert PASSWORD not in f"{found} {found!r} {found.url} {found.ignored}"


# A file


@pytest.mark.parametrize("missing", ["none.db", "folder/none.db", "folder"])
def test_a_file_that_is_not_there_is_not_created(tmp_path, missing):
    (tmp_path / "folder").mkdir()
    words = error_of(BadUrl, f"sqlite:///{tmp_path / missing}")
    assert (words, [path.name for path in tmp_path.rglob("*")]) == (
        f"there is no file {tmp_path / missing} that can be read; run: alembic upgrade head",
        ["folder"],
    )


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.db").write_text("This is a letter, and a long one, not a database." * 10)
    said = error_of(BadUrl, f"sqlite:///{tmp_path / 'x.db'}", "SELECT * FROM sqlite_master")
    assert said == "the database refused: file is not a database"


@contextmanager
def writing(database_url):
    """Somebody else who writes to the file and does not come to an end."""
    with closing(sqlite3.connect(parse_url(database_url).url.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


@only_sqlite
def test_a_file_that_somebody_else_writes_to_can_be_read(database_url, connection):
    with writing(database_url):
        assert ask(connection, "SELECT 1") == 1


@only_sqlite
def test_a_busy_file_is_waited_for(database_url, connection, monkeypatch):
    with writing(database_url) as other:
        monkeypatch.setattr(Deadline, "sleep", lambda *_: other.execute("ROLLBACK"))
        assert ask(connection, "SELECT 1", immediate=True) == 1


@only_sqlite
def test_a_file_that_stays_busy_is_as_good_as_lost(database_url, connection):
    with writing(database_url), pytest.raises(DatabaseLost, match=r": database is locked$"):
        ask(connection, "SELECT 1", immediate=True)


@only_sqlite
@pytest.mark.parametrize(
    ("stored", "form"),
    [
        ("2026-06-15 12:00:00.000000", "2026-06-15 12:00:00.000000"),
        ("2026-06-15 12:00:00", "2026-06-15 12:00:00.000000"),
        ("2026-06-15T12:00:00.123Z", "2026-06-15 12:00:00.123000"),
        ("2026-06-15T12:00:00+05:30", "2026-06-15 06:30:00.000000"),
        ("2026-06-15", "2026-06-15 00:00:00.000000"),
        ("", None),
        ("soon", None),
        ("0000-00-00 00:00:00", None),
        ("0001-01-01T00:00:00+14:00", None),
        (None, None),
        (1801010100000, None),  # Prisma's milliseconds: as text, they could be read as a day in 1801
        (2461207.0, None),
        (b"2026-06-15", None),
    ],
)
def test_a_date_in_sqlite_has_one_form_and_what_is_none_is_null(connection, stored, form):
    query = sa.text("SELECT utc(:stored)").bindparams(stored=stored)
    assert connection.run(lambda c, _: c.execute(query).scalar()) == form


@only_sqlite
def test_text_that_is_not_utf_8_can_be_read_and_its_bytes_are_not_lost(connection):
    found = ask(connection, "SELECT CAST(x'61ff62' AS TEXT)")
    assert found.encode(errors="surrogateescape") == b"a\xffb"


# A server


def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_port_without_a_server_is_a_lost_database():
    words = error_of(DatabaseLost, f"postgresql://app:{PASSWORD}@127.0.0.1:{closed_port()}/shop")
    assert ("Connection refused" in words, PASSWORD in words) == (True, False)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmode=perhaps", 'invalid sslmode value: "perhaps"'),
        ("port=99999", 'invalid port number: "99999"'),
    ],
)
def test_an_option_that_makes_no_sense_is_a_bad_database(query, words):
    url = f"postgresql://app:{PASSWORD}@127.0.0.1:{closed_port()}/shop?{query}"
    assert error_of(BadUrl, url) == f"the database refused: {words}"


@only_postgresql
def test_a_database_that_is_not_on_the_server_is_a_bad_database(database_url):
    url = sa.make_url(database_url).set(database="nowhere", password=PASSWORD)
    words = error_of(BadUrl, url.render_as_string(hide_password=False))
    assert ('FATAL: database "nowhere" does not exist' in words, PASSWORD in words) == (True, False)


@only_postgresql
def test_a_role_that_is_not_on_the_server_is_a_bad_database(database_url):
    url = sa.make_url(database_url).set(username="nobody", password=PASSWORD)
    words = error_of(BadUrl, url.render_as_string(hide_password=False))
    assert ("FATAL" in words, "nobody" in words, PASSWORD in words) == (True, True, False)


@pytest.mark.parametrize(
    "words",
    [
        'password authentication failed for user "app"',
        'no pg_hba.conf entry for host "10.0.0.1", user "app", database "shop", no encryption',
        'database "shop" does not exist',
    ],
)
def test_a_server_that_refuses_us_is_asked_once_and_quoted(words):
    with Refusing(fatal(words)) as server:
        said = error_of(BadUrl, server.url("sslmode=disable"))
    assert (said.endswith(f"FATAL: {words}"), server.asked) == (True, 1)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize(
    "words",
    [
        "la autentificación password falló para el usuario «app»",
        "no existe la base de datos «shop»",
        "no existe el rol «app»",
        'autenticação do tipo senha falhou para usuário "app"',
        'banco de dados "shop" não existe',
        "authentification par mot de passe échouée pour l'utilisateur « app »",
        "la base de données « shop » n'existe pas",
        "Passwort-Authentifizierung für Benutzer »app« fehlgeschlagen",
        "Datenbank »shop« existiert nicht",
    ],
)
def test_a_server_that_refuses_us_in_its_own_language_is_asked_once(words, encoding):
    with Refusing(fatal(words, encoding=encoding)) as server:
        said = error_of(BadUrl, server.url("sslmode=disable"))
    assert (words in said, server.asked) == (True, 1)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize(
    "words",
    [
        "lo siento, ya tenemos demasiados clientes",
        "el sistema de base de datos no está aceptando conexiones",
        "MaxClientsInSessionMode: max clients reached - in Session mode max clients are limited to pool_size",
        "the database system is not accepting connections",
        "query_wait_timeout",
        "quelques mots inconnus, écrits en français",
    ],
)
def test_words_that_are_not_surely_a_refusal_are_no_setting_s_fault(words, encoding):
    with Refusing(fatal(words, encoding=encoding)) as server:
        said = error_of(DatabaseLost, server.url("sslmode=disable"))
    assert (words in said, server.asked > 1) == (True, True)


@only_postgresql
def test_a_server_that_is_no_postgresql_is_a_bad_database(database_url, monkeypatch):
    def cockroach(*_):
        raise AssertionError("Could not determine version from string 'CockroachDB CCL v23.1.11'")

    monkeypatch.setattr(PGDialect, "_get_server_version_info", cockroach)
    said = error_of(BadUrl, database_url)
    assert said.startswith("the server is not PostgreSQL: Could not determine version from string 'Cockroach")


@pytest.mark.parametrize(
    "words",
    [
        "the database system is starting up",
        "the database system is not yet accepting connections",
        "the database system is shutting down",
        "the database system is in recovery mode",
        "terminating connection due to administrator command",
        "sorry, too many clients already",
        "remaining connection slots are reserved for roles with the SUPERUSER attribute",
        'too many connections for role "app"',
        "no more connections allowed (max_client_conn)",
        "server login has been failing, cached error: connect failed, try again later (server_login_retry)",
    ],
)
def test_a_server_without_a_free_connection_is_asked_again(words):
    with Refusing(fatal(words)) as server:
        said = error_of(DatabaseLost, server.url("sslmode=disable"))
    assert (words in said, server.asked > 1) == (True, True)


@pytest.mark.parametrize(
    ("answer", "query", "words"),
    [
        (b"N", "sslmode=require", "server does not support SSL, but SSL was required"),
        (b"R" + struct.pack("!II", 8, 3), "sslmode=disable", "no password supplied"),
        (b"S", "sslmode=verify-full&sslrootcert=/nowhere.pem", 'root certificate file "/nowhere.pem"'),
    ],
)
def test_a_missing_password_or_certificate_is_a_bad_database(answer, query, words):
    with Refusing(answer) as server:
        assert words in error_of(BadUrl, server.url(query))


@pytest.fixture
def tls_url(tmp_path):
    """A server that speaks TLS with a certificate that no authority has signed."""
    context = tls_context(certificate(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                session, _ = listener.accept()
                with session, suppress(OSError):
                    if not session.recv(8):
                        return
                    session.sendall(b"S")
                    context.wrap_socket(session, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        yield f"postgresql://app:{PASSWORD}@127.0.0.1:{port}/shop?gssencmode=disable&sslmode=verify-full"
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


@pytest.mark.parametrize(("query", "is_hinted"), [("&sslrootcert=system", True), ("", False)])
def test_what_a_certificate_of_an_unknown_authority_needs_is_said(tls_url, tmp_path, query, is_hinted):
    query = query or f"&sslrootcert={certificate(tmp_path)}"  # another authority
    said = error_of(BadUrl, tls_url + query)
    hint = "; for sslrootcert=system, set SSL_CERT_FILE to this machine's CA file"
    assert ("certificate verify failed" in said, said.endswith(hint)) == (True, is_hinted)


def test_a_server_that_hangs_up_is_a_lost_database():
    with Refusing(b"") as server:
        said = error_of(DatabaseLost, server.url("sslmode=disable"))
    assert ("server closed the connection unexpectedly" in said, server.asked > 1) == (True, True)


@only_postgresql
@pytest.mark.parametrize(
    ("query", "name"), [("", "whatsapp-token-refresh"), ("application_name=mine", "mine")]
)
def test_the_session_bears_our_name_unless_the_url_gives_another(database_url, query, name):
    separator = "&" if "?" in database_url else "?"
    with closing(Connection(parse_url(f"{database_url}{separator}{query}"))) as connection:
        assert ask(connection, "SHOW application_name") == name


# A connection that breaks


def kill(rows, connection):
    """End the session of `connection` on the server, as a restart or a failover does."""
    pid = ask(connection, "SELECT pg_backend_pid()")
    rows.run("SELECT pg_terminate_backend(:pid, 10000)", pid=pid)


@only_postgresql
def test_after_a_connection_was_killed_the_next_statement_gets_another(rows, connection):
    kill(rows, connection)
    assert ask(connection, "SELECT 1") == 1


@only_postgresql
def test_a_transaction_that_lost_its_connection_is_done_again_from_its_beginning(rows, connection):
    attempts = []

    def work(c, attempt):
        attempts.append(attempt)
        pid = c.execute(sa.text("INSERT INTO \"Channel\" (name) VALUES ('x') RETURNING pg_backend_pid()"))
        if attempt == 1:
            rows.run("SELECT pg_terminate_backend(:pid, 10000)", pid=pid.scalar())
        c.execute(sa.text("SELECT 1"))

    connection.run(work)
    assert (attempts, rows.scalar('SELECT count(*) FROM "Channel"')) == ([1, 2], 1)


@only_postgresql
def test_a_server_that_does_not_come_back_is_a_lost_database(rows, connection):
    kill(rows, connection)
    port, connects = closed_port(), []

    @sa.event.listens_for(connection._engine, "do_connect")
    def elsewhere(_dialect, _record, _arguments, parameters):
        connects.append(1)
        parameters.update(host="127.0.0.1", port=port)

    with pytest.raises(DatabaseLost, match="Connection refused"):
        ask(connection, "SELECT 1")
    assert len(connects) > 1


def test_it_waits_longer_and_longer(monkeypatch):
    waits = []

    def wait(_, seconds):
        waits.append(seconds)
        if len(waits) == 6:
            raise Expired

    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0.5)
    monkeypatch.setattr(module, "RETRY_SECONDS", 30)
    monkeypatch.setattr(Deadline, "sleep", wait)
    error_of(DatabaseLost, f"postgresql://127.0.0.1:{closed_port()}/shop")
    assert waits == [0.5, 1, 2, 4, 5, 5]


# A database that is silent

SLACK = 2  # seconds by which this machine may be slow


@contextmanager
def soon(stop):
    """Set `stop` while the block is waiting. It must end within a second after that."""
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    began = monotonic()
    yield
    assert 0.3 <= monotonic() - began < 0.3 + 1 + SLACK
    timer.join()


@pytest.fixture
def silent_url():
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"postgresql://app@127.0.0.1:{listener.getsockname()[1]}/shop?gssencmode=disable"


@pytest.fixture
def short_grace(monkeypatch):
    monkeypatch.setattr(deadlines, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(deadlines, "LEAST_SECONDS", 0.5)


def test_a_server_that_says_nothing_when_a_session_is_opened_is_a_lost_database(silent_url):
    said = error_of(DatabaseLost, f"{silent_url}&connect_timeout=2")
    assert said == "the database cannot be reached: no answer for 2 s"


@pytest.mark.parametrize(("immediate", "kind"), [(True, DatabaseLost), (False, Interrupted)])
def test_a_signal_ends_the_opening_of_a_session(silent_url, short_grace, immediate, kind):
    stop = Stop()
    with closing(Connection(parse_url(silent_url), stop)) as connection, soon(stop), pytest.raises(kind):
        ask(connection, "SELECT 1", immediate=immediate)


ENDLESS = {
    "postgresql": "SELECT pg_sleep(60)",
    "sqlite": "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g) SELECT count(*) FROM g",
}


@pytest.fixture
def endless(database_url):
    return ENDLESS[database_url.partition(":")[0]]


def test_a_statement_that_is_not_answered_ends_at_its_deadline(connection, endless, monkeypatch):
    monkeypatch.setattr(deadlines, "STATEMENT_SECONDS", 0.5)
    began = monotonic()
    with pytest.raises(DatabaseLost, match="the database does not answer: "):
        ask(connection, endless)
    assert monotonic() - began < 0.5 + 1 + SLACK
    assert ask(connection, "SELECT 1") == 1


def test_a_signal_ends_a_query(database_url, endless):
    stop = Stop()
    with (
        closing(Connection(parse_url(database_url), stop)) as connection,
        soon(stop),
        pytest.raises(Interrupted),
    ):
        ask(connection, endless)


def test_after_a_signal_a_write_has_some_seconds_left(database_url, endless, short_grace):
    stop = Stop()
    with closing(Connection(parse_url(database_url), stop)) as connection:
        with soon(stop), pytest.raises(DatabaseLost, match="does not answer"):
            ask(connection, endless, immediate=True)
        assert ask(connection, "SELECT 1", immediate=True) == 1
        assert ask(connection, "SELECT 1") == 1


@only_sqlite
def test_a_signal_ends_the_wait_for_another_writer(database_url, monkeypatch, short_grace):
    monkeypatch.setattr(module, "RETRY_SECONDS", 60)
    stop = Stop()
    with (
        closing(Connection(parse_url(database_url), stop)) as connection,
        writing(database_url),
        soon(stop),
        pytest.raises(DatabaseLost),
    ):
        ask(connection, "SELECT 1", immediate=True)


# A statement that is refused


def test_a_refused_statement_is_quoted_without_the_values_of_the_row(rows, connection):
    rows.run("CREATE TABLE t (token TEXT UNIQUE)")
    insert = sa.text("INSERT INTO t VALUES (:token)").bindparams(token=PASSWORD)
    connection.run(lambda c, _: c.execute(insert), immediate=True)
    with pytest.raises(StatementRefused) as raised:
        connection.run(lambda c, _: c.execute(insert), immediate=True)
    expected = (
        "UNIQUE constraint failed: t.token"
        if rows.is_sqlite
        else 'duplicate key value violates unique constraint "t_token_key"'
    )
    assert str(raised.value) == f"the database refused: {expected}"


def test_nothing_hangs_on_an_error_that_could_tell_more(rows, connection):
    with pytest.raises(StatementRefused) as raised:
        connection.run(lambda c, _: c.execute(sa.text("SELECT :t FROM nowhere"), {"t": PASSWORD}))
    assert (raised.value.__suppress_context__, PASSWORD in str(raised.value)) == (True, False)


def test_a_refused_transaction_leaves_nothing_behind(rows, connection):
    def work(c, _):
        c.execute(sa.text("INSERT INTO \"Channel\" (name) VALUES ('x')"))
        c.execute(sa.text("SELECT * FROM nowhere"))

    with pytest.raises(StatementRefused):
        connection.run(work, immediate=True)
    assert rows.scalar('SELECT count(*) FROM "Channel"') == 0


@pytest.mark.parametrize("error", [ValueError(PASSWORD), OverflowError(PASSWORD)])
def test_what_the_driver_cannot_express_is_refused_without_a_value(connection, error):
    def work(c, _):
        raise error

    with pytest.raises(StatementRefused) as raised:
        connection.run(work)
    assert str(raised.value) == f"the database refused: {type(error).__name__}"


@only_postgresql
@pytest.mark.parametrize(
    ("state", "kind", "is_tried_again"),
    [
        ("40001", StatementRefused, True),
        ("40P01", StatementRefused, True),
        ("55P03", LockTimeout, False),  # a lock, which was waited for already
        ("57014", StatementRefused, True),
        ("08006", DatabaseLost, True),
        ("57P01", DatabaseLost, True),
        ("53300", DatabaseLost, True),
        ("53100", DatabaseLost, True),  # disk full
        ("25006", DatabaseLost, True),  # read-only
        ("55000", DatabaseLost, False),  # published without replica identity
        ("23514", StatementRefused, False),
        ("42501", StatementRefused, False),
    ],
)
def test_the_server_s_code_says_whether_to_try_again(connection, state, kind, is_tried_again):
    attempts = []

    def work(c, attempt):
        attempts.append(attempt)
        c.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'so it is' USING ERRCODE = '{state}'; END $$")

    with pytest.raises(kind, match="so it is"):
        connection.run(work)
    assert (len(attempts) > 1, attempts) == (is_tried_again, list(range(1, len(attempts) + 1)))
