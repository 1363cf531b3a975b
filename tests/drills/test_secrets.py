"""Recognisable secrets, every failure, and a search for them in everything that a run leaves behind."""

from __future__ import annotations

import base64
import faulthandler
import json
import re
import tempfile
from http.server import ThreadingHTTPServer
from importlib import import_module
from urllib.parse import quote, quote_plus

import pytest
from conftest import only_postgresql, only_sqlite
from kills import STEPS
from receivers import Handler, running
from world import days, fernet

from sandbox.answers import Reply
from sandbox.year.faults import FAULTS

APP_SECRET = "planted-App+Secret/0123456789=abc"
PASSWORD = "planted pass%word/of@the&database"
SLACK = "T0PLANTED/B0PLANTED/plantedWebhook0123456789"
PING = "planted-heart+beat/0123456789"
HOOK = "planted-hook-password-0123456789"
KEY = bytes(range(100, 132))
TOKEN = "EAAplantedToken0123456789+/~{}=="


def written(value):
    """The ways to write a secret: in JSON, URLs, Python, hex, and base64 from any place in a longer text."""
    raw = value.encode()
    forms = {
        value,
        json.dumps(value)[1:-1],
        repr(value)[1:-1],
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
    }
    forms |= {raw.hex(), raw.hex().upper()}
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + raw).decode()
        piece = text[-(-8 * shift // 6) : len(text) - 4]
        forms |= {piece, piece.replace("+", "-").replace("/", "_")}
    return forms


class Recorder(ThreadingHTTPServer):
    """Slack, the heartbeat's monitor and a webhook in one: keeps every body and header that it is sent."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Recording)
        self.heard = []
        self.script = []
        self.paths = []
        self.closing = self

    def set(self):
        """Nothing waits here."""

    def handle_error(self, *_):
        pass


class Recording(Handler):
    def receive(self, body):
        headers = {name: value for name, value in self.headers.items() if name != "Authorization"}
        self.server.heard.append(body.decode() + str(headers))
        self.answer(200, "ok")


class Planted:
    """A world in which every secret can be recognised, and everything that may leak is kept."""

    def __init__(self, world, server, folder):
        self.world = world
        self.server = server
        self.folder = folder
        self.tokens = []
        world.meta.app_secret = APP_SECRET
        at = f"127.0.0.1:{server.server_port}"
        url = world.rows.engine.url
        if not world.rows.is_sqlite:
            world.env["DATABASE_URL"] = url.set(password=PASSWORD).render_as_string(hide_password=False)
        world.env |= {
            "META_APP_SECRET": APP_SECRET,
            "TOKEN_ENCRYPTION_KEY": f"{KEY.hex()},{KEY[::-1].hex()}",
            "SLACK_WEBHOOK_URL": f"http://{at}/services/{SLACK}",
            "HEALTHCHECK_URL": f"http://{at}/{PING}",
            "NOTIFY_URLS": f"json://alerts:{HOOK}@{at}/hook",
            "METRICS_FILE": str(folder / "metrics.prom"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
            "GITHUB_ACTIONS": "true",
            "NO_PROXY": "127.0.0.1",
        }
        (folder / "summary.md").touch()

    def channel(self, **fields):
        token = TOKEN.format(len(self.tokens))
        self.tokens.append(token)
        self.world.meta.issue(token, **({"issued_at": int((self.world.now - days(50)).timestamp())} | fields))
        sealed = fernet(KEY).encrypt(token.encode()).decode()
        return self.world.channel(token, wa_token_encrypted=sealed, name=f"Line {len(self.tokens)}")

    @property
    def secrets(self):
        new = [new for _, new in self.world.meta.exchanges]
        return [*self.tokens, *new, APP_SECRET, PASSWORD, SLACK, PING, HOOK, KEY.hex(), KEY[::-1].hex()]

    def echo(self):
        """What a careless server may say: every secret that it was sent, in every way to write it."""
        return " ".join(form for secret in (self.tokens[-1], APP_SECRET) for form in sorted(written(secret)))

    def start(self, kind, *options):
        """Run with full logs, and write every report."""
        reports = [str(self.folder / name) for name in ("status.html", "status.json")]
        arguments = [part for report in reports for part in ("--report", report)]
        return self.world.run("-vv", "--log-format", kind, *arguments, *options)

    def run(self, kind, *options):
        """Run; return the result, and what was left of each secret, by place."""
        result = self.start(kind, *options)
        return result, self.leaks(result)

    def leaks(self, result):
        places = {"stdout": result.out, "stderr": result.err}
        places |= {f"message {number}": body for number, body in enumerate(self.server.heard)}
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.name.endswith((".sqlite3", "settings.env")):
                places[path.name] = path.read_text(encoding="utf-8", errors="replace")
        with self.world.rows.connect() as connection:
            for table in ('"Channel"', "token_audit_log"):
                rows = connection.exec_driver_sql(f"SELECT * FROM {table}").all()
                places[table] = repr(rows)
        return {
            (place, form)
            for secret in self.secrets
            for form in written(secret)
            for place, text in places.items()
            if form in text
        }


@pytest.fixture
def planted(world, tmp_path, monkeypatch):
    folder = tmp_path / "left"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with running(Recorder()) as server:
        yield Planted(world, server, folder)


both_formats = pytest.mark.parametrize("kind", ["text", "json"])


def careless(fault, echo):
    """The same wrong answer from a server that repeats what it was sent, in its body and its headers."""
    answer = fault.answer() if fault.answer else Reply(200, {"data": {"is_valid": True, "scopes": [echo]}})
    if not isinstance(answer, Reply):
        return answer
    headers = {"WWW-Authenticate": echo, "X-App-Usage": echo, "facebook-api-version": echo[:200]}
    match answer.body:
        case {"error": dict(error)}:
            body = {"error": error | {"message": f"{error['message']} {echo}", "error_user_msg": echo}}
        case {"data": {"error": dict(error)} as data}:
            body = {"data": data | {"error": error | {"message": f"{error['message']} {echo}"}}}
        case dict(body):
            body = body | {"echo": echo}
        case text:
            body = f"{text}{echo}"
    return Reply(answer.status, body, headers)


@both_formats
@pytest.mark.parametrize("endpoint", ["debug_token", "exchange"])
def test_no_wrong_answer_of_meta_brings_a_secret_out(planted, kind, endpoint):
    meta = planted.world.meta
    planted.channel()  # which is renewed, so the others' failures are their own
    for fault in FAULTS:
        if fault.endpoint in (None, endpoint):
            planted.channel()
            meta.script(planted.tokens[-1], careless(fault, planted.echo()), endpoint=endpoint, forever=True)
    result, leaks = planted.run(kind, "--workers", "4")
    assert leaks == set()
    assert len(planted.server.heard) > 3
    assert (planted.world.rows.scalar("SELECT count(*) FROM token_audit_log") > 0) or result.code == 3


@both_formats
@only_sqlite
def test_a_failure_of_every_call_brings_no_secret_out(planted, kind):
    for _ in range(2):
        planted.channel()
    for fault in FAULTS:
        planted.world.meta.script(None, careless(fault, planted.echo()), forever=True)
        result, leaks = planted.run(kind)
        assert (leaks, result.code in {0, 1, 3}) == (set(), True), fault.answer and fault.answer()


@both_formats
@pytest.mark.parametrize("step", STEPS)
def test_no_exception_at_any_step_brings_a_secret_out(planted, monkeypatch, kind, step):
    module, class_, name = STEPS[step]
    owner = getattr(import_module(module), class_) if class_ else import_module(module)

    def fail(*_arguments, **_options):
        known = [
            APP_SECRET,
            f"/services/{SLACK}",
            f"/{PING}",
            HOOK,
            KEY.hex(),
            KEY[::-1].hex(),
            *planted.tokens,
        ]
        words = " ".join(known if planted.world.rows.is_sqlite else [PASSWORD, *known])
        raise RuntimeError(f"it failed with {words!r} {quote(words)}") from KeyError(words)

    planted.channel()
    planted.channel(error=(190, 460, "The password was changed."))
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        result = planted.start(kind)
    assert planted.leaks(result) == set()
    assert ("RuntimeError" in result.err, result.code) in {(True, 1), (True, 3), (True, 0)}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("META_APP_SECRET", f"{APP_SECRET} and more"),
        ("META_APP_ID", APP_SECRET),
        ("TOKEN_ENCRYPTION_KEY", KEY.hex()[:-2]),
        ("TOKEN_ENCRYPTION_KEY", f"{KEY.hex()},{HOOK}"),
        ("DATABASE_URL", "postgresql://app:planted-database-password@127.0.0.1:99999999/shop"),
        ("DATABASE_URL", "mysql://app:planted-database-password@127.0.0.1/shop"),
        ("DATABASE_URL", "postgresql://app:planted-database-password@127.0.0.1:1/shop?sslmode=perhaps"),
        ("SLACK_WEBHOOK_URL", f"ftp://127.0.0.1/services/{SLACK}"),
        ("HEALTHCHECK_URL", f"http://shop.example/{PING}"),
        ("NOTIFY_URLS", f"nothing://alerts:{HOOK}@127.0.0.1/hook"),
        ("META_GRAPH_URL", f"http://user:{HOOK}@127.0.0.1"),
        ("META_GRAPH_VERSION", APP_SECRET),
        ("REQUIRED_SCOPES", APP_SECRET),
        ("WORKERS", APP_SECRET),
    ],
)
@both_formats
def test_no_wrong_setting_is_repeated(planted, kind, variable, value):
    planted.channel()
    planted.world.env[variable] = value
    result, leaks = planted.run(kind)
    assert (result.code, variable in result.err) == (2, True)
    leaks |= {("stderr", form) for form in written("planted-database-password") if form in result.err}
    assert leaks == set()


@only_postgresql
@both_formats
def test_a_database_that_is_not_there_does_not_bring_its_password_out(planted, kind):
    planted.channel()
    url = planted.world.rows.engine.url.set(password=PASSWORD, database="planted")
    planted.world.env["DATABASE_URL"] = url.render_as_string(hide_password=False)
    result, leaks = planted.run(kind)
    assert (result.code, leaks) == (2, set())


@only_postgresql
@both_formats
def test_a_row_that_the_database_refuses_is_not_repeated(planted, kind):
    """A trigger that repeats the row, as the DETAIL of a violated constraint does."""
    planted.channel()
    planted.world.rows.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.wa_token_encrypted <> OLD.wa_token_encrypted THEN RAISE EXCEPTION 'no: %', "
        f"'{planted.tokens[0]} {APP_SECRET}' USING DETAIL = '{planted.tokens[0]}'; END IF; RETURN NEW; END $$"
    )
    planted.world.rows.run(
        'CREATE TRIGGER refuse BEFORE UPDATE ON "Channel" FOR EACH ROW EXECUTE FUNCTION refuse()'
    )
    result, leaks = planted.run(kind)
    assert (result.code, leaks) == (1, set())


def test_a_dump_of_all_threads_in_the_middle_of_a_run_holds_no_secret(planted):
    planted.channel()

    def dump(_seen):
        with (planted.folder / "dump.txt").open("a") as file:
            faulthandler.dump_traceback(file, all_threads=True)

    planted.world.meta.on_request = dump
    result, leaks = planted.run("text")
    text = (planted.folder / "dump.txt").read_text(encoding="utf-8")
    assert (result.code, leaks, len(re.findall(r"renewer\.py", text)) > 0) == (0, set(), True)


def test_the_search_finds_every_way_to_write_a_secret(planted):
    """What is searched for is found: otherwise no test here could fail."""
    planted.channel()
    result, _ = planted.run("text")
    for secret in planted.secrets:
        for form in written(secret):
            (planted.folder / "leak").write_text(f"before {form} after", encoding="utf-8")
            assert ("leak", form) in planted.leaks(result)
