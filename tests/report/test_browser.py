"""Promises of the page in a real browser: silent, self-contained, every control works by mouse and by keyboard."""

import json
import shutil

import pytest

from msdk.report.grid import Grid
from msdk.report.page import budgets_page
from msdk.report.templates import inline, templates

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium here (apt-get install chromium)"),
    pytest.mark.skipif(not DRIVER, reason="there is no chromedriver here (apt-get install chromium-driver)"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def driver():
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (it is in the group dev)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    with webdriver.Chrome(options=options, service=service) as browser:
        yield browser


@pytest.fixture
def page(driver, budgets, diffs, ledger, tmp_path):
    """The page, freshly loaded from a file; afterwards neither the console nor the network may have said anything."""
    place = tmp_path / "report.html"
    place.write_text(budgets_page(budgets, diffs=diffs, ledger=ledger), encoding="utf-8")
    driver.get("about:blank")
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    driver.get(place.as_uri())
    yield driver
    assert driver.get_log("browser") == []
    asked = requests(driver)
    assert asked, "the log must at least have the page itself"
    assert {url for url in asked if not url.startswith("data:")} == {place.as_uri()}


def requests(driver):
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url.partition("#")[0] for url in sent]


def find(driver, selector):
    return driver.find_elements("css selector", selector)


def background(driver):
    return driver.execute_script("return getComputedStyle(document.body).backgroundColor")


def order(driver):
    return [row.text for row in find(driver, ".compare tbody th")]


def press(driver, key):
    """One key, wherever the focus is."""
    from selenium.webdriver import ActionChains

    ActionChains(driver).send_keys(key).perform()


def test_loads_in_silence(page):
    """Nothing on the console, no request but for the page itself, and all sections are there."""
    assert page.title == "Budget: digits/unified, digits/three"
    assert len(find(page, "section.recipe")) == 2


def test_metric_buttons(page):
    """Each button of the comparison shows its own figure alone, and is the one that is pressed."""
    buttons = find(page, "[data-set-metric]")
    assert len(buttons) > 6
    for button in buttons:
        button.click()
        shown = [figure for figure in find(page, "figure.metric") if figure.is_displayed()]
        assert [figure.get_attribute("data-metric") for figure in shown] == [button.get_attribute("data-set-metric")]
        assert [one for one in buttons if one.get_attribute("aria-pressed") == "true"] == [button]


def test_unit_buttons(page):
    """FLOPs are twice the MACs, everywhere at once; the page shows one of the two."""
    (macs, flops) = find(page, "[data-set-unit]")
    ours, theirs = find(page, "dl.tiles .as-macs")[0], find(page, "dl.tiles .as-flops")[0]
    assert float(theirs.get_attribute("value")) == 2 * float(ours.get_attribute("value"))
    assert (ours.is_displayed(), theirs.is_displayed()) == (True, False)
    flops.click()
    assert not any(figure.is_displayed() for figure in find(page, ".as-macs"))
    assert (theirs.is_displayed(), "FLOPs" in theirs.text) == (True, True)
    macs.click()
    assert not any(figure.is_displayed() for figure in find(page, ".as-flops"))


def test_theme_buttons(page):
    """Dark and light change the colours, whatever the system likes; auto follows the system."""
    auto, light, dark = find(page, "[data-set-theme]")
    dark.click()
    at_night = background(page)
    light.click()
    by_day = background(page)
    assert (at_night, by_day) == ("rgb(20, 23, 27)", "rgb(251, 251, 249)")
    auto.click()
    for system, colour in (("dark", at_night), ("light", by_day)):
        feature = {"name": "prefers-color-scheme", "value": system}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        assert background(page) == colour


def test_sorting(page):
    """A head sorts up, then down, and says so; a recipe without the figure stays last."""
    heads = find(page, ".compare th[aria-sort]")
    unsorted = order(page)
    for head in heads:
        for direction in ("ascending", "descending"):
            head.find_element("css selector", "button").click()
            assert head.get_attribute("aria-sort") == direction
            assert [other.get_attribute("aria-sort") for other in heads].count("none") == len(heads) - 1
            column = heads.index(head)
            keys = [
                row.find_elements("css selector", "th, td")[column].get_attribute("data-key")
                for row in find(page, ".compare tbody tr")
            ]
            known = [key if column == 0 else float(key) for key in keys if key]
            assert known == sorted(known, reverse=direction == "descending")
            assert "" not in keys[: len(known)]
    assert sorted(order(page)) == sorted(unsorted)


def test_differences_open_and_close(page):
    """The list of differences folds."""
    (details,) = find(page, "#diff details")
    table, summary = (details.find_element("css selector", part) for part in ("table", "summary"))
    before = table.is_displayed()
    summary.click()
    assert table.is_displayed() != before
    summary.click()
    assert table.is_displayed() == before


def test_strip_by_mouse(page, budgets):
    """Pointing at a call says its step, time, ratio, stage, evaluations and MACs; leaving it says how to."""
    from selenium.webdriver import ActionChains

    strip = find(page, "figure.strip")[1]
    readout, calls = strip.find_element("css selector", ".readout"), strip.find_elements("css selector", ".call")
    assert len(calls) == len(budgets[1].trace)
    rest = readout.text
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", strip)
    for call in (calls[0], calls[-1]):
        ActionChains(page).move_to_element(call).perform()
        assert readout.text == call.get_attribute("aria-label")
    ActionChains(page).move_to_element(readout).perform()
    assert readout.text == rest


def test_strip_by_keyboard(page):
    """The strip is one stop of the tab key; arrows, Home and End move inside it, and the ends hold."""
    from selenium.webdriver import Keys

    strip = find(page, "figure.strip")[1]
    readout, calls = strip.find_element("css selector", ".readout"), strip.find_elements("css selector", ".call")
    assert [call.get_attribute("tabindex") for call in calls].count("0") == 1
    page.execute_script("arguments[0].focus()", calls[0])
    for key, place in (
        (Keys.ARROW_RIGHT, 1),
        (Keys.END, len(calls) - 1),
        (Keys.ARROW_RIGHT, len(calls) - 1),
        (Keys.ARROW_LEFT, len(calls) - 2),
        (Keys.HOME, 0),
        (Keys.ARROW_LEFT, 0),
    ):
        press(page, key)
        assert page.switch_to.active_element == calls[place]
        assert readout.text == calls[place].get_attribute("aria-label")
        assert [call.get_attribute("tabindex") for call in calls].count("0") == 1


def test_everything_is_reached_by_the_tab_key(page):
    """Tab visits every link, button, summary and strip in order, and each shows that it has the focus."""
    from selenium.webdriver import Keys

    wanted = find(page, "a, button, summary, .scroll, .call[tabindex='0']")
    wanted = [one for one in wanted if one.is_displayed()]
    seen = []
    for _ in range(len(wanted)):
        press(page, Keys.TAB)
        active = page.switch_to.active_element
        seen.append(active)
        marked = page.execute_script(
            "const e = arguments[0], hit = e.querySelector(':scope > .hit');"
            "return getComputedStyle(e).outlineStyle !== 'none' || (hit && getComputedStyle(hit).stroke !== 'none')",
            active,
        )
        assert marked, active.get_attribute("outerHTML")[:80]
    assert seen == wanted


def test_buttons_by_keyboard(page):
    """Space and Enter press a button that has the focus."""
    from selenium.webdriver import Keys

    dark, light = find(page, "[data-set-theme='dark']")[0], find(page, "[data-set-theme='light']")[0]
    page.execute_script("arguments[0].focus()", dark)
    press(page, Keys.SPACE)
    assert dark.get_attribute("aria-pressed") == "true"
    page.execute_script("arguments[0].focus()", light)
    press(page, Keys.ENTER)
    assert (dark.get_attribute("aria-pressed"), light.get_attribute("aria-pressed")) == ("false", "true")


def test_links_stay_on_the_page(page):
    """Every link of the navigation leads to its section."""
    for link in find(page, "nav a"):
        link.click()
        assert page.execute_script("return document.querySelector(':target') !== null")


def test_fits_a_phone(page):
    """At 400 pixels nothing but the tables, which scroll by themselves, is wider than the screen."""
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        assert page.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [400, 400]
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


WIDE = Grid("A table", ("name", *"abcdefghijkl"), (("x", *["12345.678 TFLOPs"] * 12),), ("A note. " * 40,))


@pytest.fixture(params=["run", "comparison", "study"])
def other(request, budgets, diffs, ledger, told):
    """A page of a run, of runs side by side, and of a study, each with what is too wide for a phone."""
    if request.param == "run":
        return budgets_page(budgets, diffs=diffs, ledger=ledger, run=told)
    picture = inline(told.pictures["losses.png"])
    shared = {"title": told.title, "grids": [WIDE, WIDE]}
    if request.param == "comparison":
        shared |= {"curved": "Losses", "curves": picture, "sheets": [("a" * 200, picture)]}
    else:
        shared |= {
            "question": "q" * 200,
            "verdict": "v " * 99,
            "plots": [("Q", picture, "n" * 200)],
            "facts": ["f" * 200],
        }
    return templates().get_template(f"{request.param}.html").render(**shared)


def test_other_pages_fit_a_phone(driver, other, tmp_path):
    """By day, by night and on paper: the page never scrolls sideways; what is too wide does, within itself."""
    place = tmp_path / "page.html"
    place.write_text(other, encoding="utf-8")
    driver.get_log("browser")
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        driver.get(place.as_uri())
        backgrounds = set()
        for theme in ("light", "dark"):
            driver.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
            backgrounds.add(background(driver))
            assert driver.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [390, 390]
        assert len(backgrounds) == 2
        inner = "return [...document.querySelectorAll('.scroll')].map(e => [e.clientWidth, e.scrollWidth])"
        widths = driver.execute_script(inner)
        assert all(own <= 390 for own, _ in widths)
        assert any(whole > own for own, whole in widths)
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert background(driver) == "rgb(255, 255, 255)"
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert driver.get_log("browser") == []


def test_prints(page):
    """On paper there are no controls, every figure of the comparison is shown, and the paper is white."""
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not any(one.is_displayed() for one in find(page, "nav, .controls, .metrics"))
        assert all(one.is_displayed() for one in find(page, "figure.metric"))
        assert background(page) == "rgb(255, 255, 255)"
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_reads_without_scripts(page):
    """Where scripts do not run, every figure of the comparison is shown at once."""
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.refresh()
        assert all(one.is_displayed() for one in find(page, "figure.metric"))
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
