"""examples/react: built with Vite, served to Chromium by its own server, on a real PostgreSQL."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from zoneinfo import ZoneInfo

import pytest
import requests
from babel.dates import format_date
from browser import axe_source, chromium
from shop import TOKEN, real_channel
from world import KEY, ROOT, days, fernet

from crypto import KeyRing
from models import fingerprint
from sandbox.destination import Destination
from sandbox.seed import seed
from whatsapp_tokens.results import State
from whatsapp_tokens.settings import read_database

EXAMPLE = ROOT / "examples/react"
LINK = "https://app.example.com/connect?line={channel_id}"
SESSIONS = {"session-of-the-bakery": "bakery", "session-of-the-florist": "florist"}
OFFLINE = re.compile(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH")


def node_version():
    """The version of Node as numbers, if npm is here, too; else nothing."""
    if not (shutil.which("npm") and shutil.which("node")):
        return ()
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(number) for number in re.findall(r"\d+", said))


pytestmark = [
    pytest.mark.skipif(node_version() < (20, 19), reason="Vite needs npm and Node 20.19 or newer"),
    pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True),
]


def npm(*command):
    # Prisma downloads an engine of which `generate` needs nothing: any program does in its place.
    environment = os.environ | {
        "PRISMA_SCHEMA_ENGINE_BINARY": shutil.which("true"),
        "CHECKPOINT_DISABLE": "1",
    }
    done = subprocess.run(
        ["npm", *command],
        cwd=EXAMPLE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if done.returncode and command[0] == "ci" and OFFLINE.search(done.stderr):
        pytest.skip("npm cannot reach its registry")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Install, generate and build, as the README of the example says."""
    with (tmp_path_factory.getbasetemp().parent / "react-example.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed, wanted = EXAMPLE / "node_modules/.package-lock.json", EXAMPLE / "package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
        npm("run", "generate")
        npm("run", "build")


@pytest.fixture
def serve(built, real):
    """Returns a context in which the server of the example runs, and gives its address."""

    @contextmanager
    def serving(**settings):
        environment = {"PATH": os.environ["PATH"], "DATABASE_URL": real.url, "PORT": "0"} | settings
        environment |= {"DEMO_SESSIONS": json.dumps(SESSIONS), "TZ": "America/Bogota"}
        with subprocess.Popen(
            ["node", "server/server.js"], cwd=EXAMPLE, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process.stdout.readline().strip()
            finally:
                process.kill()

    return serving


@pytest.fixture
def shops(real):
    """Lines of two tenants, in every condition that they know of differently. Returns their ids by name."""
    now = real.world.now
    lines = {
        ("bakery", "Stopped"): {
            "token_status": "warning",
            "token_error": "reconnect_required: it was revoked",
        },
        ("bakery", "Renews itself"): {"token_expires_at": now + days(5)},
        ("bakery", "Well"): {"token_expires_at": now + days(50)},
        ("bakery", "Our key is wrong"): {"token_status": "warning", "token_error": "undecryptable: by key 1"},
        ("bakery", "Meta is down"): {"token_status": "warning", "token_error": "unavailable: HTTP 503"},
        ("florist", "Not extended"): {
            "token_status": "warning",
            "token_error": "not_extended: the same expiry",
            "token_expires_at": now + days(3),
        },
        ("florist", "Permission"): {
            "token_status": "warning",
            "token_error": "missing_permission: messaging",
        },
        ("florist", "Expired"): {"token_expires_at": now - days(2)},
        ("florist", "Reconnected"): {
            "token_status": "warning",
            "token_error": "reconnect_required: it was revoked",
            "token_fingerprint": fingerprint("another ciphertext"),
        },
        ("florist", "Inactive"): {
            "active": False,
            "token_status": "warning",
            "token_error": "reconnect_required",
        },
        ("florist", "Instagram"): {"type": "instagram", "token_status": "warning"},
    }
    ids = {}
    for (tenant, name), columns in lines.items():
        ciphertext = fernet().encrypt(b"EAAtoken").decode()
        values = {TOKEN: ciphertext, "token_fingerprint": fingerprint(ciphertext)} | columns
        ids[name] = real_channel(real, tenant_id=tenant, name=name, **values)
    return ids


def ask(address, session=None, path="/api/whatsapp-lines", **options):
    cookies = {"session": session} if session else {}
    return requests.get(address + path, cookies=cookies, timeout=60, **options)


def notices(answer):
    return {line["name"]: line["notice"] for line in answer.json()["lines"]}


def test_a_tenant_gets_its_own_lines_and_what_it_can_do_something_about(serve, shops):
    with serve(RECONNECT_URL=LINK) as address:
        bakery, florist = (ask(address, session) for session in SESSIONS)
    assert notices(bakery) == {
        "Stopped": "stopped",
        "Renews itself": None,
        "Well": None,
        "Our key is wrong": None,
        "Meta is down": None,
    }
    assert notices(florist) == {
        "Not extended": "expires",
        "Permission": "permission",
        "Expired": "expired",
        "Reconnected": None,
    }
    links = {line["name"]: line["reconnectUrl"] for line in bakery.json()["lines"]}
    assert links == dict.fromkeys(links) | {"Stopped": LINK.replace("{channel_id}", shops["Stopped"])}
    assert (bakery.headers["cache-control"], bakery.headers.get("x-powered-by")) == (
        "private, no-store",
        None,
    )


def test_nothing_internal_leaves_the_server(serve, shops, real):
    with serve() as address:
        text = "".join(ask(address, session).text for session in SESSIONS)
    keys = {key for line in re.findall(r"\{[^{}]*\}", text) for key in json.loads(line)}
    assert keys == {"id", "name", "notice", "expiresAt", "reconnectUrl"}
    assert not [
        word for word in ("warning", "undecryptable", "revoked", "503", "gAAAA", "tenant") if word in text
    ]


@pytest.mark.parametrize("session", [None, "another", "bakery", "__proto__", ""])
def test_without_a_session_there_is_nothing_and_a_query_does_not_choose_the_tenant(serve, shops, session):
    with serve() as address:
        refused = ask(address, session, params={"tenant_id": "bakery", "tenantId": "bakery"})
        other = ask(address, "session-of-the-florist", params={"tenant_id": "bakery", "tenantId": "bakery"})
    assert (refused.status_code, refused.json()) == (401, {"error": "not signed in"})
    assert "Stopped" not in notices(other)


def test_an_error_of_the_database_shows_nothing(serve, shops, real):
    real.sql('ALTER TABLE "Channel" DROP COLUMN token_error')
    with serve() as address:
        answer = ask(address, "session-of-the-bakery")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})


def test_a_link_that_is_none_is_refused(built, real):
    done = subprocess.run(
        ["node", "server/server.js"],
        cwd=EXAMPLE,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": real.url, "RECONNECT_URL": "javascript:alert(1)"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "RECONNECT_URL must begin with https://" in done.stderr) == (1, True)


# The states are those of the program: for a channel in every condition, before and after a run.

STATES = """
import { PrismaPg } from "@prisma/adapter-pg";
import { PrismaClient } from "@prisma/client";
import { rowsOf, stateOf } from "./server/lines.js";
const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: process.env.DATABASE_URL }) });
const rows = await rowsOf(prisma, "florist");
console.log(JSON.stringify(Object.fromEntries(rows.map((row) => [row.id, stateOf(row, new Date())]))));
await prisma.$disconnect();
"""


def states_by_the_example(real):
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", STATES],
        cwd=EXAMPLE,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": real.url, "TZ": "Asia/Tokyo"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def states_by_the_program(real, path):
    real.json("--dry-run", "--report", str(path))
    return {line["id"]: line["state"] for line in json.loads(path.read_text())["lines"]}


def test_the_states_are_those_of_the_program(built, shops, real, tmp_path):
    database, mapping = read_database(real.world.env)
    theirs = {"tenant_id": "florist", "phone_number_id": "{n}", "verify_token": "v"}
    seed(Destination(database, mapping, theirs), real.world.meta, KeyRing.parse(KEY.hex()), real.world.now)
    seen = set()
    for _ in range(2):
        by_program = states_by_the_program(real, tmp_path / "status.json")
        by_example = states_by_the_example(real)
        assert by_example == {id_: by_program[id_] for id_ in by_example}
        assert len(by_example) == 20
        seen |= set(by_example.values())
        real.json()
    assert seen == {str(state) for state in State}


# In the browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    return axe_source(tmp_path_factory.mktemp("axe"))


@pytest.fixture
def show(browser):
    """Opens the page as the user of a session; at the end nothing has been complained of."""
    errors = []

    @contextmanager
    def opened(address, session, language="es", width=800):
        context = browser.new_context(viewport={"width": width, "height": 700}, timezone_id="America/Bogota")
        context.add_cookies([{"name": "session", "value": session, "url": address}])
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/?lang={language}")
        page.wait_for_selector("[aria-busy=false]")
        yield page
        context.close()

    yield opened
    assert errors == []


def shown(page):
    """What the page says: the alert of each line, and where its button leads."""
    found = {}
    for line in page.locator("li").all():
        alert, button = line.get_by_role("alert"), line.get_by_role("link")
        found[line.get_by_role("heading").inner_text()] = (
            alert.inner_text() if alert.count() else None,
            button.get_attribute("href") if button.count() else None,
        )
    return found


def test_each_tenant_sees_its_own_lines_its_alerts_and_the_button(serve, shops, show, real):
    def link(name):
        return LINK.replace("{channel_id}", shops[name])

    with serve(RECONNECT_URL=LINK) as address:
        with show(address, "session-of-the-bakery") as page:
            bakery = shown(page)
            button = page.get_by_role("link", name="Conectar WhatsApp: Stopped")
            assert button.inner_text() == "Conectar WhatsApp"
        with show(address, "session-of-the-florist") as page:
            florist = shown(page)
    assert bakery == {
        "Stopped": ("Esta línea ha dejado de funcionar. Vuelve a conectarla.", link("Stopped")),
        "Renews itself": (None, None),
        "Well": (None, None),
        "Our key is wrong": (None, None),
        "Meta is down": (None, None),
    }
    assert list(florist) == ["Expired", "Not extended", "Permission", "Reconnected"]
    assert florist["Reconnected"] == (None, None)
    assert florist["Permission"][1] == link("Permission")
    local = (real.world.now + days(3)).astimezone(ZoneInfo("America/Bogota"))
    day = format_date(local.date(), "long", locale="es")
    assert florist["Not extended"] == (
        f"La conexión de esta línea caduca el {day}. Vuelve a conectarla antes.",
        link("Not extended"),
    )


def test_an_application_may_start_embedded_signup_itself(serve, shops, show):
    with serve() as address, show(address, "session-of-the-bakery") as page:
        page.add_init_script("window.connectWhatsApp = (line) => { window.connected = line.id }")
        page.reload()
        page.get_by_role("button", name="Conectar WhatsApp: Stopped").click()
        assert (page.evaluate("window.connected"), page.get_by_role("button").count()) == (
            shops["Stopped"],
            1,
        )


def test_without_a_link_there_is_an_alert_and_no_dead_button(serve, shops, show):
    with serve() as address, show(address, "session-of-the-bakery", "en") as page:
        assert shown(page)["Stopped"] == ("This line has stopped working. Connect it again.", None)
        assert (page.locator("a").count(), page.locator("button").count()) == (0, 0)


def test_a_user_who_is_not_signed_in_is_told_that_nothing_could_be_loaded(serve, shops, browser):
    with serve() as address:
        page = browser.new_page()
        page.goto(address)
        said = page.get_by_role("alert").inner_text()
        page.close()
    assert said == "No se han podido cargar las líneas. Inténtalo de nuevo más tarde."


@pytest.mark.parametrize("language", ["es", "en"])
@pytest.mark.parametrize("width", [320, 1200])
def test_axe_finds_no_violation_and_the_page_is_not_wider_than_the_screen(
    serve, shops, show, axe, language, width
):
    with (
        serve(RECONNECT_URL=LINK) as address,
        show(address, "session-of-the-florist", language, width) as page,
    ):
        page.evaluate(axe)
        found = page.evaluate("axe.run()")
        assert [violation["id"] for violation in found["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
