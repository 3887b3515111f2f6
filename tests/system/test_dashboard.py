"""The dashboard in a headless Chromium: on the real daemon what it shows and steers, on a fake one each state's look.

Screenshots of every state are kept in build/dashboard/, which git ignores: look at them after a change of the page.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.support import wants
from tests.support.browser import LOST, Browser
from tests.support.daemon import ROOT, Daemon
from tests.support.eventually import eventually
from tests.support.fake_admin import TOKEN, FakeAdmin
from tests.support.rig import Daemons, Rig
from tests.support.steps import answer

pytestmark = wants.program("chromedriver", "chromium")

SHOTS = ROOT / "build" / "dashboard"
NONE = "\u2013"
AXE = ROOT / "tests" / "support" / "axe" / "axe.min.js"

CONFIG = """
defaults:
  timeout: {attempt: 2s}
  retry: {max_retries: 0}
  breaker: {volume_threshold: 4, reset_timeout: 60s}
services:
  opening: {endpoints: ["$opening"]}
  forced: {endpoints: ["$calm"]}
  keyboard: {endpoints: ["$calm"]}
  drained: {endpoints: ["$calm", "$other"], timeout: {attempt: 3s}}
"""


def ask(daemon: Daemon, path: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.ports.admin, timeout=5)
    try:
        connection.request("GET", path)
        found = connection.getresponse()
        assert found.status == 200
        return json.loads(found.read())
    finally:
        connection.close()


def url(daemon: Daemon, view: str = "") -> str:
    return f"http://127.0.0.1:{daemon.ports.admin}/{view}"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "opening", "calm", "other") as rig:
        yield rig


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The test's page is a fresh one, and its console has to stay silent."""
    chromium.look()
    chromium.complaints()
    yield chromium
    complaints = chromium.complaints()
    chromium.driver.get("about:blank")
    assert not complaints


def choose(browser: Browser, css: str, value: str) -> None:
    browser.one(f'{css} option[value="{value}"]').click()


def row(name: str) -> str:
    return f'.services tr:has(a[href="#/services/{name}"])'


# --- on the real daemon ---


def test_breaker_that_opens_is_shown_within_two_seconds(rig: Rig, browser: Browser) -> None:
    browser.open(url(rig.daemon))
    browser.wait(row("opening"), "closed")
    rig["opening"].play(answer(500))
    while ask(rig.daemon, "/services/opening")["breaker"]["state"] != "open":
        rig.ask("GET", "/opening/x")
    began = time.monotonic()
    browser.wait(row("opening"), "open", "failing")
    took = time.monotonic() - began
    assert took < 2
    browser.wait(".reasons", "opening", "breaker open", "next probe in")
    browser.wait(".log", "opening", "breaker open")

    def title_counts() -> None:
        failing = sum("failing" in one.text for one in browser.all(".services tbody tr"))  # of other tests too
        assert failing
        assert browser.driver.title.startswith(f"({failing} failing)")

    browser.until(title_counts)
    browser.screenshot(SHOTS / "real-open.png")
    browser.one(f"{row('opening')} a").click()
    browser.wait("h1", "opening")
    browser.wait("#breaker", "open", "since", "4 of 4 calls failed", "Next probe in")
    browser.screenshot(SHOTS / "real-open-detail.png", whole=True)


def test_breaker_is_forced_and_given_back(rig: Rig, browser: Browser) -> None:
    browser.open(url(rig.daemon, "#/services/forced"))
    browser.wait("#breaker .big", "closed")
    browser.one("#breaker .force-open").click()
    choose(browser, "dialog select", "15m")
    browser.screenshot(SHOTS / "real-force-dialog.png")
    browser.one("dialog button[type=submit]").click()
    browser.wait("#breaker", "forced open", "14:")
    breaker = ask(rig.daemon, "/services/forced")["breaker"]
    assert (breaker["state"], breaker["forced"]) == ("open", "open")
    assert rig.ask("GET", "/forced/x").get("x-sidecar-reason") == "circuit_open"
    browser.wait("#events", "forced", "breaker")
    browser.screenshot(SHOTS / "real-forced.png")
    browser.one("#breaker .auto").click()
    eventually(lambda: ask(rig.daemon, "/services/forced")["breaker"]["forced"] is None)
    browser.until(lambda: "forced" not in browser.text("#breaker .big"))


def test_endpoint_is_drained_and_restored(rig: Rig, browser: Browser) -> None:
    browser.open(url(rig.daemon, "#/services/drained"))
    browser.wait("#endpoints", rig["calm"].authority, "available")
    first = "#endpoints tbody tr:first-child"
    address = browser.text(f"{first} code")
    browser.one(f"{first} .drain").click()
    browser.one("dialog button[type=submit]").click()
    browser.wait(first, "drained", "left")
    found = {one["address"]: one for one in ask(rig.daemon, "/services/drained")["endpoints"]}
    assert found[address]["drained"]
    assert not found[address]["available"]
    browser.wait("#endpoints", "2 endpoints, 1 available")
    browser.screenshot(SHOTS / "real-drained.png")
    browser.one(f"{first} .restore").click()
    browser.wait(first, "available")


def test_policy_says_who_set_each_value_and_can_be_searched(rig: Rig, browser: Browser) -> None:
    browser.open(url(rig.daemon, "#/services/drained"))
    browser.wait(
        "#policy",
        "timeout.attempt 3s this service sidecar.yaml:",
        "breaker.volume_threshold 4 defaults sidecar.yaml:",
        "built in",
    )
    browser.one("#policy input[type=search]").send_keys("attempt")
    browser.until(lambda: "volume_threshold" not in browser.text("#policy"))
    assert "timeout.attempt" in browser.text("#policy")


def test_explain_tells_what_would_happen(rig: Rig, browser: Browser) -> None:
    browser.open(url(rig.daemon, "#/explain"))
    browser.wait("h1", "Explain")
    browser.one("#explain-target").send_keys("/drained/events/42", Keys.ENTER)
    browser.wait(".answer", "/events/42", "drained", rig["calm"].authority, "timeout.attempt")
    assert "target=%2Fdrained%2Fevents%2F42" in browser.driver.current_url
    browser.screenshot(SHOTS / "real-explain.png")


def test_breaker_is_forced_by_keyboard_alone(rig: Rig, browser: Browser) -> None:
    browser.open(url(rig.daemon))
    browser.wait(row("keyboard"), "closed")

    def tab_to(says: str) -> None:
        seen = []
        for _ in range(60):
            active = browser.driver.switch_to.active_element
            if active.tag_name in ("a", "button") and says in active.text:
                outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"the focus on {says} is not to be seen"
                return
            seen.append(f"{active.tag_name} {active.text[:30]}")
            active.send_keys(Keys.TAB)
        raise AssertionError(f"nothing says {says}: {seen}")

    tab_to("keyboard")
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.wait("#breaker .big", "closed")
    tab_to("Force closed")
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.until(lambda: browser.driver.switch_to.active_element.tag_name == "select")
    tab_to("Force closed")
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.wait("#breaker", "forced closed")
    assert ask(rig.daemon, "/services/keyboard")["breaker"]["forced"] == "closed"


def test_rejected_reload_is_a_banner_until_a_good_one(start: Daemons, browser: Browser) -> None:
    daemon = start("services: {venue: {endpoints: ['http://127.0.0.1:9']}}\n")
    good = daemon.path.read_text()
    browser.open(url(daemon))
    browser.wait(row("venue"), "closed")
    daemon.path.write_text(good.replace("{endpoints", "{timeout: {atempt: 5s}, endpoints"))
    browser.wait("#banner-reload", "Reload rejected", "1 error", "sidecar.yaml:2:", "did you mean")
    browser.screenshot(SHOTS / "real-rejected.png")
    daemon.path.write_text(good.replace("{endpoints", "{timeout: {attempt: 4s}, endpoints"))
    browser.until(lambda: not browser.all("#banner-reload"))


def test_page_that_was_left_gives_its_connections_back(rig: Rig, browser: Browser) -> None:
    """A browser has six for a host, and the event stream of each page holds one: kept pages would starve the next."""
    for _ in range(8):
        browser.open(url(rig.daemon))
        browser.wait(row("drained"), "closed")
        browser.wait("#link-state", "live")


def test_daemon_that_is_gone_is_said(start: Daemons, browser: Browser) -> None:
    daemon = start("services: {venue: {endpoints: ['http://127.0.0.1:9']}}\n")
    browser.open(url(daemon))
    browser.wait(row("venue"), "closed")
    daemon.kill()
    browser.wait("#banner-down", "has not answered since")
    browser.wait("#link-state", "not connected")
    browser.wait(".verdict", "Unknown")
    browser.screenshot(SHOTS / "real-gone.png")
    assert not browser.complaints(*LOST)


# --- on a fake one: each state, in each look ---


LOOKS = {
    "light": {"width": 1440, "height": 900},
    "dark": {"width": 1440, "height": 900, "dark": True},
    "phone": {"width": 360, "height": 740},
}
VIEWS = {
    "quiet": ("quiet", "#/", ".verdict", "No requests in the last 10 s, so no failure is known"),
    "calm": ("calm", "#/", ".verdict", "All 19 services are healthy"),
    "open": ("open", "#/", ".reasons", "38.5 % of requests succeed: connect_failure"),
    "detail": ("open", "#/services/payment", "#breaker", "Next probe"),
    "forced": ("forced", "#/services/payment", "#breaker", "forced open"),
    "ejected": ("ejected", "#/services/venue", "#endpoints", "ejected"),
    "rejected": ("rejected", "#/", "#banner-reload", "2 errors"),
    "hundred": ("hundred", "#/", ".tools", "100"),
    "explain": ("open", "#/explain?method=GET&target=/payment/x", ".answer", "payment"),
}


@contextmanager
def fake(state: str, browser: Browser) -> Iterator[FakeAdmin]:
    """The page is left before the listener goes: a stream that is cut is an error to a browser's console."""
    with FakeAdmin(state) as admin:
        try:
            yield admin
        finally:
            browser.driver.get("about:blank")


def violations(browser: Browser) -> list[str]:
    """What axe-core finds against WCAG 2.2 A and AA and its own best practices."""
    browser.run(AXE.read_text())
    found = browser.driver.execute_async_script(
        "const done = arguments[0];"
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
        ".then((found) => done(found.violations.map((one) => `${one.id}: ${one.help}: `"
        " + one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(' | '))))"
    )
    return list(found)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", VIEWS)
def test_each_state_in_each_look(name: str, look: str, browser: Browser) -> None:
    state, view, css, words = VIEWS[name]
    browser.look(**LOOKS[look])
    with fake(state, browser) as admin:
        browser.open(f"{admin.url}/{view}")
        browser.wait(css, words)
        if view == "#/" or name == "detail":
            browser.until(lambda: len(browser.all("canvas")) > 1)
        browser.screenshot(SHOTS / f"{name}-{look}.png", whole=look == "phone" and name != "hundred")
        wide = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, "the page scrolls sideways"
        assert not violations(browser)


@pytest.mark.parametrize("width", [701, 901, 1240, 1300])
def test_tables_of_a_service_stay_in_their_cards(width: int, browser: Browser) -> None:
    browser.look(width=width, height=900)
    with fake("ejected", browser) as admin:
        browser.open(f"{admin.url}/#/services/venue")
        browser.wait("#endpoints", "ejected")
        browser.screenshot(SHOTS / f"ejected-{width}.png", whole=True)
        sticks_out = browser.run(
            "const right = (node) => node.getBoundingClientRect().right;"
            " return right(document.querySelector('.endpoints')) - right(document.querySelector('#endpoints'))"
        )
        assert sticks_out < 0
        lines = browser.run(
            "return [...document.querySelectorAll('.policy tbody th')].map((key) => {"
            " const range = document.createRange(); range.selectNodeContents(key);"
            " return new Set([...range.getClientRects()].map((one) => one.top)).size })"
        )
        tall = browser.run(
            "return Math.max(...[...document.querySelectorAll('.endpoints .buttons')].map((one) => one.clientHeight))"
        )
        assert width < 900 or tall < 70, "the buttons are in more than two rows"
        assert max(lines) == 1, "a key is broken over two lines"


def test_no_requests_are_neither_well_nor_failing(browser: Browser) -> None:
    with fake("quiet", browser) as admin:
        browser.open(admin.url)
        browser.wait(".verdict.is-idle", "No requests in the last 10 s, so no failure is known")
        browser.wait(".reasons li", "payment", "last failure 4", "s ago: connect_failure")
        assert len(browser.all(".reasons li")) == 1
        assert not browser.all(".services .is-bad, .services .is-warn")
        browser.one(f"{row('payment')} a").click()
        browser.wait(".why.is-idle", "no requests", "last failure 4", "s ago: connect_failure")


def test_failing_service_says_what_its_requests_fail_with(browser: Browser) -> None:
    with fake("open", browser) as admin:
        browser.open(admin.url)
        browser.wait(".verdict", "1 failing: connect_failure")
        browser.wait(".reasons", "payment", "38.5 % of requests succeed: connect_failure")
        browser.one(f"{row('payment')} a").click()
        browser.wait(".why", "failing", "38.5 % of requests succeed: connect_failure")


def test_a_service_of_grpc_shows_what_its_calls_came_to(browser: Browser) -> None:
    with fake("calm", browser) as admin:
        browser.open(f"{admin.url}/#/services/search")
        browser.wait(".title", "gRPC", "calls by grpc-status: OK 122,000, UNAVAILABLE 97")
        browser.screenshot(SHOTS / "grpc.png")
        browser.open(f"{admin.url}/#/services/auth")
        assert "gRPC" not in browser.wait(".title", "auth", "endpoints from")


def test_last_available_endpoint_is_neither_drained_nor_ejected(browser: Browser) -> None:
    with fake("calm", browser) as admin:
        browser.open(f"{admin.url}/#/services/auth")
        browser.wait("#endpoints", "1 endpoint, 1 available")
        for action in ("drain", "eject"):
            button = browser.one(f"#endpoints .{action}")
            assert button.get_attribute("aria-disabled") == "true"
            assert "last available endpoint" in (button.get_attribute("title") or "")
            button.click()
            assert not browser.all("dialog[open]")
        browser.wait("#toast", "last available endpoint")


def test_share_of_an_endpoint_that_is_out_is_not_shown(browser: Browser) -> None:
    with fake("calm", browser) as admin:
        admin.fake.drained["venue", "10.0.1.7:3002"] = time.time() + 300
        browser.open(f"{admin.url}/#/services/venue")
        browser.wait("#endpoints tbody tr:first-child", "drained")
        assert browser.text("#endpoints tbody tr:first-child td[data-label^=Share]") == NONE


def test_errors_of_a_rejected_reload_are_a_line_each_in_the_events(browser: Browser) -> None:
    with fake("rejected", browser) as admin:
        browser.open(admin.url)
        browser.wait("#events", "reload rejected", "and 2 more")
        lines = [one.text for one in browser.all("#events .event:first-child .fields")]
        assert sum("unknown key" in line for line in lines) == 3
        assert not any("changed" in line for line in lines)
        browser.wait("#events", "Pause")


def test_single_sample_is_drawn(browser: Browser) -> None:
    """Of a service that had one request there is one latency: no line, but a dot."""
    with fake("quiet", browser) as admin:
        browser.open(admin.url)
        browser.until(lambda: len(browser.all("canvas")) > 1)
        drawn = browser.run("""
            const { Spark } = window.charts = await import("/ui/charts.js");
            const now = Date.now() / 1000;
            const spark = new Spark("latency", "one");
            document.querySelector(".totals").append(spark.node);
            spark.update([[now - 300, now - 200, now - 100], [null, 7, null], [null, null, null]]);
            await new Promise((done) => setTimeout(done, 300));
            const canvas = spark.node.querySelector("canvas");
            const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            return pixels.filter((value, at) => at % 4 === 3 && value > 128).length;
        """)
        assert drawn > 4


def test_token_is_asked_for_and_kept_for_the_tab(browser: Browser) -> None:
    with fake("token", browser) as admin:
        browser.open(admin.url)
        browser.wait("dialog", "Token required")
        browser.screenshot(SHOTS / "token.png")
        browser.one("#dialog-token").send_keys("wrong", Keys.ENTER)
        browser.wait("dialog", "not accepted")
        browser.one("#dialog-token").send_keys(TOKEN, Keys.ENTER)
        browser.wait(".verdict", "All 19 services are healthy")
        browser.driver.refresh()
        browser.wait(".verdict", "All 19 services are healthy")
        assert browser.run("return localStorage.length === 0")
        assert not browser.complaints("401 (Unauthorized)")


def test_theme_is_chosen_and_kept(browser: Browser) -> None:
    with fake("calm", browser) as admin:
        browser.open(admin.url)
        browser.wait(".verdict", "healthy")
        light = browser.run("return getComputedStyle(document.body).backgroundColor")
        for _ in range(2):
            browser.one("#theme").click()
        browser.wait("#theme", "Theme: dark")
        browser.driver.refresh()
        browser.wait("#theme", "Theme: dark")
        assert browser.run("return getComputedStyle(document.body).backgroundColor") != light
        browser.run("localStorage.clear()")


def test_page_keeps_no_more_than_200_events(browser: Browser) -> None:
    with fake("calm", browser) as admin:
        browser.open(admin.url)
        browser.wait("#events", "configuration in force")
        for n in range(450):
            admin.fake.event("breaker", "venue", f"breaker event {n}", {})
        browser.wait("#events", "breaker event 449")
        assert len(browser.all(".event")) == 200


def test_filter_and_order(browser: Browser) -> None:
    with fake("open", browser) as admin:
        browser.open(admin.url)
        browser.wait(".verdict", "1 failing")
        assert browser.text(".services tbody th").endswith("payment")
        browser.one("#filter").send_keys("open")
        browser.until(lambda: len(browser.all(".services tbody tr")) == 1)
        browser.one("#filter").send_keys(Keys.CONTROL, "a", Keys.NULL, Keys.DELETE)
        browser.one("input[value=name]").find_element("xpath", "..").click()
        browser.until(lambda: browser.text(".services tbody th").endswith("analytics"))
        browser.run("localStorage.clear()")


def test_files_of_the_page_name_no_other_host() -> None:
    ui = ROOT / "sidecar" / "admin" / "ui"
    own = [path for path in ui.iterdir() if path.suffix in (".html", ".js", ".css", ".svg")]
    assert own
    for path in own:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path
        assert "https://" not in text, path
    page = (ui / "index.html").read_text()
    assert "style=" not in page
    assert "<style" not in page


def test_vendored_chart_library_has_version_and_licence() -> None:
    folder: Path = ROOT / "sidecar" / "admin" / "ui" / "uplot"
    assert (folder / "VERSION").read_text().startswith("uPlot 1.6.32\n")
    assert "MIT License" in (folder / "LICENSE").read_text()
    assert "v1.6.32" in (folder / "uPlot.iife.min.js").read_text()[:300]
