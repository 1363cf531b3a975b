"""The status page in a real browser: Chromium, with axe-core to look for what shuts people out."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from world import days

from models import Channel, fingerprint
from whatsapp_tokens.reports.language import Language
from whatsapp_tokens.reports.status_files import write
from whatsapp_tokens.reports.status_lines import View
from whatsapp_tokens.results import ChannelTotals, State

LANGUAGES = ("en", "es", "pt")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = "axe-core@4.14.1"
NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
TEXT = "a ciphertext"
DEAD = "reconnect_required: the customer's password was changed"
LINK = "https://app.example.com/reconnect?a=1&channel={channel_id}#\"><'`x"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not on this machine")

CHANNELS = [
    Channel(
        "a/7 & b",
        "Panadería Norte",
        TEXT,
        NOW - days(3),
        None,
        "warning",
        DEAD,
        fingerprint(TEXT),
        state=State.WAITING,
    ),
    Channel(
        2,
        "<script>alert(1)</script>",
        TEXT,
        NOW + days(2),
        NOW - days(58),
        "warning",
        DEAD,
        state=State.DOWN,
    ),
    Channel(
        3,
        "*bold* ::error:: <!channel>",
        TEXT,
        NOW + days(9),
        NOW - days(51),
        "warning",
        f"unavailable: {'y' * 400}",
        state=State.WARNING,
    ),
    Channel(
        4,
        "\u202eright to left\u202c שלום",
        TEXT,
        NOW + days(10),
        NOW - days(50),
        "ok",
        phone_number="+34 600 000 000",
        state=State.ENDING,
    ),
    Channel(5, "5", TEXT, None, None, None, state=State.UNKNOWN),
    Channel(6, "x" * 300, TEXT, NOW + days(30), NOW - days(30), "ok", state=State.OK),
    Channel(7, "Two\nlines\tof text", TEXT, NOW + days(55), NOW - days(5), "ok", state=State.OK),
    Channel(8, "South", TEXT, None, NOW - days(5), "never_expires", state=State.NEVER_EXPIRES),
    Channel(
        9, "Restaurante El Rincón de la Abuela", TEXT, NOW - days(5), NOW - days(65), "ok", state=State.ENDED
    ),
]
FLEET = ChannelTotals(
    {
        State.WAITING: 1,
        State.DOWN: 1,
        State.WARNING: 1,
        State.ENDED: 1,
        State.ENDING: 1,
        State.UNKNOWN: 1,
        State.OK: 2,
        State.NEVER_EXPIRES: 1,
    },
    NOW + days(2),
    {date(2026, 12, 3): 1, date(2026, 12, 10): 1, date(2026, 12, 31): 7},
)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    arguments += [
        "--host-resolver-rules=MAP * ~NOTFOUND"
    ]  # wherever a link leads, nothing leaves the machine
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The source of axe-core, from npm."""
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), AXE]
    if shutil.which("npm") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("npm cannot bring axe-core here")
    return (folder / "node_modules/axe-core/axe.min.js").read_text()


@pytest.fixture
def show(browser, tmp_path):
    """Opens a page of the fleet; at the end nothing has been complained of and nothing was asked for."""
    errors, asked = [], []

    @contextmanager
    def opened(language="en", scheme="light", width=1100, later=timedelta(0), channels=CHANNELS):
        path = tmp_path / "status.html"
        write(
            path,
            View(NOW, days(15), days(60), FLEET, 1, language=Language(language), reconnect_url=LINK),
            channels,
        )
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        page.clock.install(time=NOW + later)
        page.goto(path.as_uri())
        yield page
        context.close()

    yield opened
    assert (errors, [url for url in asked if not url.startswith(("file://", "data:,"))]) == ([], [])


each_look = pytest.mark.parametrize(
    ("language", "scheme"), [(language, scheme) for language in LANGUAGES for scheme in ("light", "dark")]
)


def names(page):
    """The names of the lines that can be seen."""
    return [found.strip() for found in page.locator("#lines > li:visible h3").all_inner_texts()]


@each_look
def test_the_page_is_in_the_language_and_the_colours_that_were_asked_for(show, language, scheme):
    with show(language, scheme) as page:
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        dark = sum(map(int, ground.removeprefix("rgb(").rstrip(")").split(","))) < 3 * 128
        heading = page.get_by_role("heading", level=1).inner_text()
    titles = {"en": "WhatsApp lines", "es": "Líneas de WhatsApp", "pt": "Linhas de WhatsApp"}
    assert (heading, dark) == (titles[language], scheme == "dark")


@each_look
def test_search_finds_by_name_without_accents_by_number_and_by_id(show, language, scheme):
    with show(language, scheme) as page:
        found = {}
        for asked in ("panaderia", "600 000", "a/7", "norte PANADERÍA", "no such line"):
            page.get_by_role("searchbox").fill(asked)
            found[asked] = len(names(page))
        nothing = page.locator("#nothing").is_visible()
    assert (list(found.values()), nothing) == ([1, 1, 1, 1, 0], True)


@each_look
def test_the_filter_shows_one_state_and_says_how_many(show, language, scheme):
    with show(language, scheme) as page:
        page.get_by_role("combobox").select_option("ok")
        shown, said = names(page), page.get_by_role("status").inner_text()
        page.get_by_role("searchbox").fill("text")
        both = names(page)
        page.get_by_role("combobox").select_option("")
        page.get_by_role("searchbox").fill("")
        every = names(page)
    counts = {
        "en": "2 of 9 lines shown",
        "es": "2 de 9 líneas a la vista",
        "pt": "2 de 9 linhas exibidas",
    }
    assert (len(shown), said, len(both), len(every)) == (2, counts[language], 1, 9)


@pytest.mark.parametrize("asked", ["+34600000000", "34 600-000-000", "(600) 000.000", "derecha 600000"])
def test_search_finds_a_number_however_it_is_written(show, asked):
    other = Channel(9, "600", TEXT, None, None, "ok", phone_number="+34 600 111 222")
    mine = replace(CHANNELS[3], name="Derecha")
    with show(channels=[mine, other]) as page:
        page.get_by_role("searchbox").fill(asked)
        assert names(page) == ["Derecha"]


def test_search_does_not_put_the_digits_of_different_things_together(show):
    other = Channel(9, "Shop 600", TEXT, None, None, "ok", phone_number="111 222")
    with show(channels=[other]) as page:
        page.get_by_role("searchbox").fill("600911")
        assert names(page) == []


def test_the_enter_key_in_the_search_box_sends_nothing(show):
    with show() as page:
        page.get_by_role("searchbox").fill("panaderia")
        page.keyboard.press("Enter")
        page.wait_for_timeout(100)
        assert (names(page), page.get_by_role("searchbox").input_value()) == (
            ["Panadería Norte"],
            "panaderia",
        )


def test_filter_and_search_can_be_used_with_the_keyboard_alone(show):
    with show() as page:
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        while page.evaluate("document.activeElement.id") != "find":
            page.keyboard.press("Tab")
        page.keyboard.type("panaderia")
        first = names(page)
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.id")
    assert (first, focused) == (["Panadería Norte"], "state")


def test_a_button_leads_to_its_own_channel_and_says_which(show):
    with show() as page:
        links = page.locator("a.button")
        first, count = links.nth(0), links.count()
        said = " ".join(first.inner_text().split()), first.get_attribute("target"), first.get_attribute("rel")
        address = first.get_attribute("href")
    assert (count, said) == (
        9,
        ("Reconnect WhatsApp : Panadería Norte", "_blank", "noopener noreferrer"),
    )
    assert address == "https://app.example.com/reconnect?a=1&channel=a%2F7%20%26%20b#%22%3E%3C'%60x"


@each_look
@pytest.mark.parametrize(("hours", "is_stale"), [(0, False), (35.9, False), (36.1, True), (24 * 30, True)])
def test_a_page_that_is_older_than_36_hours_says_that_the_job_has_stopped(
    show, language, scheme, hours, is_stale
):
    with show(language, scheme, later=timedelta(hours=hours)) as page:
        assert page.get_by_role("alert").is_visible() is is_stale


def test_the_banner_appears_by_itself_on_a_page_that_stays_open(show):
    with show(later=timedelta(hours=35.9)) as page:
        before = page.locator("#stale").is_visible()
        page.clock.run_for(timedelta(minutes=20).total_seconds() * 1000)
        assert (before, page.locator("#stale").is_visible()) == (False, True)


@each_look
@pytest.mark.parametrize("width", [320, 360, 768])
def test_nothing_scrolls_sideways(show, language, scheme, width):
    with show(language, scheme, width) as page:
        page.locator("summary").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@each_look
@pytest.mark.parametrize("width", [320, 360, 639])
def test_on_a_phone_a_name_has_the_whole_width_and_no_word_of_it_is_broken(show, language, scheme, width):
    with show(language, scheme, width) as page:
        parts = page.evaluate(
            """() => Array.from(document.querySelectorAll("#lines > li"), (line) => {
              const { paddingLeft, paddingRight } = getComputedStyle(line);
              const name = line.querySelector("h3");
              const inner = line.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
              return name.getBoundingClientRect().width / inner;
            })"""
        )
        restaurant = page.get_by_role("heading", name="Restaurante")
        restaurant.evaluate("(name) => { name.style.width = 'min-content'; }")
        narrowest = restaurant.evaluate("(name) => name.getBoundingClientRect().width")
    assert (min(parts) >= 0.8, len(parts), narrowest > 90) == (True, 9, True)


@each_look
@pytest.mark.parametrize(("width", "most"), [(360, 400), (1100, 250)])
def test_a_very_long_name_is_shown_whole_in_a_card_of_modest_height(show, language, scheme, width, most):
    with show(language, scheme, width) as page:
        name = page.get_by_role("heading", name="x" * 300)
        fits = name.evaluate("(name) => name.scrollWidth <= name.clientWidth")
        assert (fits, name.bounding_box()["height"] <= most) == (True, True)


@each_look
def test_axe_finds_no_serious_violation(show, axe, language, scheme):
    with show(language, scheme) as page:
        page.locator("summary").click()
        page.clock.resume()
        page.evaluate(axe)
        found = page.evaluate("axe.run()")
    serious = [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]]
    assert (serious, len(found["passes"]) > 20) == ([], True)


def test_names_are_text_and_no_script_of_theirs_runs(show):
    with show() as page:
        shown = names(page)
        scripts = page.locator("script").count()
    assert (shown[1], shown[2], scripts) == ("<script>alert(1)</script>", "*bold* ::error:: <!channel>", 1)


def test_without_javascript_every_line_is_there(browser, tmp_path):
    path = tmp_path / "status.html"
    write(path, View(NOW, days(15), days(60), FLEET), CHANNELS)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    lines, controls = page.locator("#lines > li").count(), page.locator("#controls").is_visible()
    context.close()
    assert (lines, controls) == (9, False)
