"""The page in a real browser: Chromium without a window, by way of Playwright."""

from __future__ import annotations

import shutil

import pytest

from studies import write_study

EVIL = "<img src=x onerror=alert(1)>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt install chromium")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser, path, **options):
    """The page, and everything that it complained of or asked the network for."""
    page = browser.new_page(**options)
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.on(
        "request",
        lambda request: request.url.startswith(("data:", "file:")) or faults.append(request.url),
    )
    page.goto(path.as_uri())
    return page, faults


@pytest.fixture
def page(browser, written):
    page, faults = opened(browser, written / "index.html")
    yield page
    assert faults == []
    page.close()


def open_all(page):
    for details in page.locator("details").all():
        details.evaluate("one => { one.open = true; }")


def test_the_first_screen_is_a_verdict_a_picture_and_the_arms(page):
    assert page.locator("h1").inner_text() == "Mashup is better than scratch"
    assert page.locator("svg[role=img]:visible").count() == 1
    assert page.locator("table:visible").count() == 1
    picture = page.locator("svg[role=img]:visible").bounding_box()
    assert picture["y"] + picture["height"] < 720


def test_every_figure_is_visible_and_has_words(page):
    open_all(page)
    pictures = page.locator("svg[role=img]")
    assert pictures.count() == 2 + 4 * 4 + 1 + 2 + 2 + 2  # curves: four panels, four targets
    for one in pictures.all():
        assert one.is_visible()
        assert one.bounding_box()["width"] > 100
        assert len(one.get_attribute("aria-label")) > 40
    marks = page.locator("svg[role=img] title").all_text_contents()
    assert any(text.startswith("mashup, step 0: ") for text in marks)


def test_a_section_is_opened_by_its_link_and_by_the_keyboard(page):
    section = page.locator("#costs-in-seconds")
    assert not section.evaluate("one => one.open")
    page.get_by_role("link", name="Costs in seconds").click()
    assert section.evaluate("one => one.open")
    section.locator("summary").first.press("Enter")
    assert not section.evaluate("one => one.open")
    focusable = page.locator(".scroll[tabindex='0'][role=region]")
    assert all(one.get_attribute("aria-label") for one in focusable.all())


def test_an_address_with_a_section_opens_it(browser, written):
    page, faults = opened(browser, written / "index.html")
    page.goto((written / "index.html").as_uri() + "#budget-ladder")
    page.reload()
    assert page.locator("#budget-ladder").evaluate("one => one.open")
    assert faults == []


def column(table, number):
    return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()


def test_tables_are_sorted_by_their_headings(page):
    table = page.locator("table", has=page.get_by_role("button", name="Total seconds")).first
    place = table.locator("thead th").all_inner_texts().index("Total seconds") + 1
    before = column(table, place)
    values = [float(text.replace(",", "")) for text in before]
    button = table.get_by_role("button", name="Total seconds")
    button.click()
    assert [float(text.replace(",", "")) for text in column(table, place)] == sorted(values)
    assert table.locator("th[aria-sort=ascending]").count() == 1
    button.click()
    assert [float(t.replace(",", "")) for t in column(table, place)] == sorted(values, reverse=True)
    table.get_by_role("button", name="Arm", exact=True).click()
    names = column(table, 1)
    assert names == sorted(names)


def test_every_table_can_be_sorted_and_cells_without_a_number_come_last(page):
    for table in page.locator("table").all():
        assert table.get_attribute("class") == "sortable"
    open_all(page)
    rates = page.locator("table", has=page.get_by_role("button", name="Diverged"))
    rates.get_by_role("button", name="Dev loss").click()
    shown = column(rates, 6)
    numbers = [text for text in shown if text != "–"]
    assert shown == sorted(numbers, key=float) + ["–"] * (len(shown) - len(numbers))


def test_it_reads_on_a_phone_and_in_the_dark(browser, written):
    page, faults = opened(
        browser, written / "index.html", viewport={"width": 390, "height": 844},
        color_scheme="dark",
    )  # fmt: skip
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(22, 25, 29)"
    name = "var(--mashup)"
    mark = page.locator(f"svg circle[fill='{name}']").first
    assert mark.evaluate("one => getComputedStyle(one).fill") == "rgb(86, 180, 233)"
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert faults == []


def test_names_cannot_become_markup_or_script(browser, tmp_path):
    from mashup import report

    folder = write_study(tmp_path / "study", name="x", base=EVIL, targets=(EVIL, "$a$ 日本 \\b"))
    report(folder, tmp_path / "out")
    page, faults = opened(browser, tmp_path / "out/index.html")
    assert page.locator("img[src=x]").count() == 0
    open_all(page)
    assert EVIL in page.locator("body").inner_text()
    assert any(EVIL in title for title in page.locator("svg title").all_text_contents())
    assert faults == []
