"""The status page in a real browser: Chromium, with axe-core to look for what shuts people out."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from browser import axe_source, chromium
from world import days

from models import Channel, fingerprint
from whatsapp_tokens.reports.language import Language
from whatsapp_tokens.reports.status_files import write
from whatsapp_tokens.reports.status_lines import View
from whatsapp_tokens.results import ChannelTotals, State

LANGUAGES = ("en", "es", "pt")
NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
TEXT = "a ciphertext"
DEAD = "reconnect_required: the customer's password was changed"
LINK = "https://app.example.com/reconnect?a=1&channel={channel_id}#\"><'`x"

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
        9, "Restaurante El Rincón de la Abuela", TEXT, NOW - days(5), NOW - days(65), "ok", state=State.ENDED
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
    # Wherever a link leads, nothing leaves the machine.
    with chromium("--host-resolver-rules=MAP * ~NOTFOUND") as opened:
        yield opened


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    return axe_source(tmp_path_factory.mktemp("axe"))


@pytest.fixture
def show(browser, tmp_path):
    """Opens a page of the fleet; at the end nothing has been complained of and nothing was asked for."""
    errors, asked = [], []

    @contextmanager
    def opened(
        language="en", scheme="light", width=1100, later=timedelta(0), channels=CHANNELS, zone="UTC", **more
    ):
        path = tmp_path / "status.html"
        write(
            path,
            View(NOW, days(15), days(60), FLEET, 1, language=Language(language), reconnect_url=LINK),
            channels,
        )
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 900}, timezone_id=zone, **more
        )
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
    return [found.strip() for found in page.locator("#lines .line:visible h3").all_inner_texts()]


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
    mine = replace(CHANNELS[4], name="Derecha")
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
        first, count = links.first, links.count()
        said = " ".join(first.inner_text().split()), first.get_attribute("target"), first.get_attribute("rel")
        address = first.get_attribute("href")
    assert (count, said) == (
        2,
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
            """() => Array.from(document.querySelectorAll("#lines .line"), (line) => {
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


def texts(page, what):
    """The texts of elements, each in one line."""
    return [" ".join(found.split()) for found in page.locator(what).all_inner_texts()]


@each_look
@pytest.mark.parametrize(("width", "is_phone"), [(320, True), (640, True), (900, False), (1400, False)])
def test_the_list_comes_before_the_timeline_on_a_phone_and_what_is_down_always(
    show, language, scheme, width, is_phone
):
    with show(language, scheme, width) as page:
        tops = page.evaluate(
            """() => [".of-down", ".of-warning", ".of-others", ".panel"].map(
              (one) => document.querySelector(one).getBoundingClientRect().top)"""
        )
    down, warning, others, timeline = tops
    assert (down < warning < timeline, others < timeline) == (True, is_phone)


@each_look
@pytest.mark.parametrize("width", [320, 360, 700, 1000, 1400])
def test_columns_stand_in_line_from_card_to_card(show, language, scheme, width):
    with show(language, scheme, width) as page:
        lefts = page.evaluate(
            """() => [".line h3", ".facts > :first-child", ".acts", ".why", ".todo"].map((one) => new Set(
              Array.from(document.querySelectorAll(one), (each) => {
                const { left } = each.getBoundingClientRect();
                return Math.round(left);
              })).size)"""
        )
    assert lefts == [1, 1, 1, 1, 1]


@each_look
def test_the_time_of_the_reader_stands_beside_utc(show, language, scheme):
    with show(language, scheme, zone="America/Bogota") as page:
        said = texts(page, ".tile.run .local") + texts(page, ".of-down .local")
    words = {"en": "{} your time", "es": "{} hora local", "pt": "{} hora local"}
    assert said == [words[language].format("03:00")] * 3


def test_the_day_of_the_reader_is_said_where_it_is_another(show):
    late = [replace(CHANNELS[3], expires_at=NOW + days(part)) for part in (2, 2.2)]
    with show("es", zone="Pacific/Kiritimati", channels=late) as page:
        said = texts(page, ".of-warning .hour")
    assert said == ["08:00 UTC 22:00 hora local", "12:48 UTC 4 dic, 02:48 hora local"]


def test_in_utc_and_without_javascript_no_other_time_is_shown(show):
    with show() as page:
        assert page.locator(".local").count() == 0
    with show(zone="America/Bogota", java_script_enabled=False) as page:
        assert (page.locator(".local").count(), texts(page, ".of-down .hour")[0]) == (0, "08:00 UTC")


COPY = {
    "en": ("Copy link for the customer", "Copied"),
    "es": ("Copiar enlace para el cliente", "Copiado"),
    "pt": ("Copiar link para o cliente", "Copiado"),
}
ADDRESS = "https://app.example.com/reconnect?a=1&channel=a%2F7%20%26%20b#%22%3E%3C'%60x"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_link_for_the_customer_is_copied_with_the_keyboard_alone_and_it_is_said(show, language):
    name, copied = COPY[language]
    with show(language, permissions=["clipboard-read", "clipboard-write"]) as page:
        button = page.get_by_role("button", name=re.compile(f"^{name} ?: Panadería Norte$"))
        page.clock.pause_at(NOW + timedelta(minutes=1))
        button.press("Enter")
        page.locator("#said", has_text=copied).wait_for(state="attached")
        button = page.locator("button.copy").first  # whose name is another now
        found = (button.inner_text().split(":")[0].strip(), page.locator("#said").inner_text())
        address = page.evaluate("navigator.clipboard.readText()")
        page.clock.run_for(5000)
        after = (button.inner_text().split(":")[0].strip(), page.locator("#said").inner_text())
    assert (found, address, after) == ((copied, copied), ADDRESS, (name, ""))


@pytest.mark.parametrize("twice", [False, True])
def test_where_the_clipboard_is_closed_the_link_is_shown_and_selected(show, twice):
    with show() as page:
        page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        button = page.get_by_role("button", name=re.compile("^Copy link for the customer ?: Panadería"))
        for _ in range(1 + twice):
            button.click()
            page.wait_for_function("document.activeElement.tagName === 'INPUT'")
        field = page.get_by_role("textbox", name="Select the link and copy it")
        selected = page.evaluate("String(document.getSelection())")
        said = page.locator("#said").inner_text()
        found = (field.count(), field.input_value(), selected, said)
    assert found == (1, ADDRESS, ADDRESS, "Select the link and copy it")


def test_without_javascript_there_is_no_button_that_does_nothing(show):
    with show(java_script_enabled=False) as page:
        assert (page.locator("button.copy:visible").count(), page.locator("a.button:visible").count()) == (
            0,
            2,
        )


def test_a_section_without_a_line_that_fits_is_not_shown(show):
    with show() as page:
        page.get_by_role("combobox").select_option("down")
        assert texts(page, "#lines > .group:visible h2") == ["Down now 3"]


def test_on_paper_there_are_the_lines_and_nothing_to_press(show):
    with show() as page:
        page.emulate_media(media="print")
        seen = [
            page.locator(f"{one}:visible").count()
            for one in ("#lines .line", ".button", ".controls", ".tile")
        ]
    assert seen == [9, 0, 0, 4]


def test_without_lines_there_is_nothing_to_search(show):
    with show(channels=[]) as page:
        assert (page.get_by_role("searchbox").is_visible(), page.locator("#count").inner_text()) == (
            False,
            "",
        )


@each_look
def test_a_thousand_lines_and_twice_the_size_scroll_in_one_direction(show, language, scheme):
    many = [replace(CHANNELS[3], id=f"{number}-{'x' * 40}") for number in range(1000)]
    with show(language, scheme, 550, channels=many, device_scale_factor=2) as page:
        assert (
            page.locator("#lines .line").count(),
            page.evaluate("document.documentElement.scrollWidth"),
        ) == (
            1000,
            550,
        )


def test_names_are_text_and_no_script_of_theirs_runs(show):
    with show() as page:
        shown = names(page)
        scripts = page.locator("script").count()
    assert (shown[1], shown[3], scripts) == ("<script>alert(1)</script>", "*bold* ::error:: <!channel>", 1)


def test_without_javascript_every_line_is_there(browser, tmp_path):
    path = tmp_path / "status.html"
    write(path, View(NOW, days(15), days(60), FLEET), CHANNELS)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    lines, controls = page.locator("#lines .line").count(), page.locator("#controls").is_visible()
    context.close()
    assert (lines, controls) == (9, False)
