"""The pages in headless Chromium, served over a socket: what people see, with keyboard, phone and dark mode."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from live_publisher import NOW, LiveServer, serving
from recorded_market import FIRST, Recorder, candles
from werkzeug.serving import BaseWSGIServer, make_server

from zvt_crypto.core.config import Settings
from zvt_crypto.core.levels import HOUR_MS
from zvt_crypto.server.app import create_app
from zvt_crypto.store.engine import Store

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="chromium is not installed: apt-get install chromium chromium-driver",
)

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
#: Seconds that something on the page may take to appear.
PATIENCE = 30
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


class Served:
    """An application behind a socket."""

    def __init__(self, app: Flask) -> None:
        self._server: BaseWSGIServer = make_server("127.0.0.1", 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


Serve = Callable[[Flask], Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[Served] = []

    def served(app: Flask) -> Served:
        running.append(Served(app))
        return running[-1]

    yield served
    for one in running:
        one.stop()


class Browser:
    """One window of Chromium."""

    def __init__(self, folder: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        arguments = [
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={folder}",
        ]
        # Chromium refuses to run as root in its sandbox.
        arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
        for argument in arguments:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
        self.size(1280, 900)

    def size(self, width: int, height: int) -> None:
        """The size of the page, which a window's may not reach."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def colour_scheme(self, name: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": name}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def open(self, url: str) -> None:
        self.driver.get(url)

    def until(self, what: Callable[[], Any], message: str) -> Any:
        """What a question answers as soon as the answer is true."""
        return WebDriverWait(self.driver, PATIENCE, 0.1).until(lambda _: what(), message)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def texts(self, selector: str) -> list[str]:
        return list(
            self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector)
        )

    def count(self, selector: str) -> int:
        return int(self.run("return document.querySelectorAll(arguments[0]).length", selector))

    def choose(self, selector: str, label: str) -> None:
        Select(self.driver.find_element(By.CSS_SELECTOR, selector)).select_by_visible_text(label)

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def focused(self) -> str:
        return str(self.run("const e = document.activeElement; return e.id || e.textContent.trim()"))

    def is_live(self) -> bool:
        return self.text("#status") == "Live"

    def screenshot(self, name: str) -> Path:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.driver.save_screenshot(str(path))
        return path

    def hosts(self) -> set[str]:
        """Hosts of all requests since the last call."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [entry["params"] for entry in entries if entry["method"] == "Network.requestWillBeSent"]
        urls = [urlsplit(params["request"]["url"]) for params in sent]
        return {str(url.hostname) for url in urls if url.scheme in ("http", "https", "ws", "wss")}

    def errors(self) -> list[str]:
        """What the console complained of since the last call; what the page's policy refused is there too."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The window as it is at first."""
    yield chromium
    chromium.open("about:blank")
    chromium.size(1280, 900)
    chromium.colour_scheme("")
    chromium.hosts()
    chromium.errors()


@pytest.fixture
def page(browser: Browser, serve: Serve, app: Flask, recorder: Recorder) -> Browser:
    """The page over the recorded market, and a symbol of which the middle was never recorded."""
    recorder.series("binance", "CryptoPair1hKdata", "solusdt", candles("1h", 100))
    recorder.series(
        "binance", "CryptoPair1hKdata", "solusdt", candles("1h", 100, first=FIRST + 150 * HOUR_MS)
    )
    browser.open(serve(app).url)
    browser.until(browser.is_live, "the page is not live")
    return browser


def select_hourly(page: Browser) -> None:
    page.choose("#coverage-table", "CryptoPair1hKdata (binance)")
    page.until(lambda: page.texts("#coverage tbody th") == ["SOLUSDT"], "the hourly table is not shown")


def points(page: Browser) -> int:
    return page.count("#plot .boxlayer path.box")


def test_it_shows_providers_and_tables(page: Browser) -> None:
    assert page.texts("#providers tbody th") == ["binance", "okx"]
    assert page.texts("#providers tbody td.state")[0].startswith("recording")
    assert "kraken" in page.text("#others")
    tables = page.texts("#tables tbody th")
    assert tables.count("CryptoPair1mKdata") == 2
    row = page.run(
        "return [...document.querySelectorAll('#tables tbody tr')]"
        ".find(r => r.dataset.key === 'binance/CryptoPair1mKdata').innerText.split(/\\s*\\t\\s*/)"
    )
    assert row[:5] == ["CryptoPair1mKdata", "binance", "2", "3,489", "11"]
    assert page.hosts() == {"127.0.0.1"}
    assert page.errors() == []
    page.screenshot("page")


def test_a_strip_shows_its_gap(page: Browser) -> None:
    select_hourly(page)
    assert page.count("#coverage .strip .recorded") == 2
    found = page.run(
        "const gap = document.querySelector('#coverage .strip .unrecorded');"
        "return [gap.getBoundingClientRect().width, gap.textContent, getComputedStyle(gap).fill,"
        " gap.closest('svg').getAttribute('aria-label')]"
    )
    width, title, fill, label = found
    page.run("document.querySelector('#coverage').scrollIntoView()")
    page.screenshot("coverage")
    assert width > 10
    assert title == "unrecorded: 2024-01-05 04:00 to 2024-01-07 06:00 UTC"
    assert fill == "rgb(198, 40, 40)"
    assert label == "1 gap, 50 candles missing"
    assert page.texts("#coverage tbody td.number") == ["200", "1", "50", "50"]


def test_the_chart_of_a_chosen_symbol_and_level_is_drawn(page: Browser) -> None:
    page.choose("#chart-table", "CryptoPair1mKdata (binance)")
    page.until(lambda: points(page) == 300, "no 300 candles are drawn")
    page.choose("#chart-symbol", "ETHUSDT")
    page.until(
        lambda: page.text("#chart-caption").startswith("ETHUSDT 1m, 300 candles"), "no chart of ETHUSDT"
    )
    assert page.count("#plot .barlayer .point path") == 300
    page.choose("#chart-level", "15m (made of 1m)")
    page.until(lambda: page.text("#chart-caption").startswith("ETHUSDT 15m, 34 candles"), "no chart of 15m")
    assert points(page) == 34
    assert page.run("return document.querySelector('#plot .boxlayer path.box').getBBox().height") > 0
    page.choose("#chart-level", "1m")
    page.until(lambda: page.text("#chart-caption").startswith("ETHUSDT 1m, 300 candles"), "no chart of 1m")
    page.driver.find_element(By.ID, "chart-older").click()
    page.until(
        lambda: "2024-01-01 00:50 to 2024-01-01 05:50" in page.text("#chart-caption"), "no older candles"
    )
    page.driver.find_element(By.ID, "chart-newest").click()
    page.until(lambda: "to 2024-01-01 08:20" in page.text("#chart-caption"), "no newest candles")
    page.run(
        "document.querySelector('#chart details').open = true; document.querySelector('#chart').scrollIntoView()"
    )
    assert page.texts("#chart details tbody th")[0] == "2024-01-01 08:19"
    page.screenshot("chart")
    assert page.hosts() == {"127.0.0.1"}
    assert page.errors() == []


def test_everything_is_reached_by_keyboard(page: Browser) -> None:
    page.until(lambda: points(page) > 0, "no chart")
    page.press(Keys.TAB)
    assert page.focused() == "Skip to content"
    assert page.run("return document.activeElement.getBoundingClientRect().left") >= 0
    page.press(Keys.ENTER)
    assert page.focused() == "main"
    seen: list[str] = []
    while "The last candles as a table" not in seen:
        page.press(Keys.TAB)
        seen.append(page.focused())
        assert page.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid", seen[-1]
        assert len(seen) < 100, seen
    wanted = [
        "coverage-table",
        "coverage-search",
        "chart-table",
        "chart-symbol",
        "chart-level",
        "chart-older",
    ]
    assert [name for name in seen if name in wanted] == wanted
    page.run(
        "[...document.querySelectorAll('#tables button')].find(b => b.textContent === arguments[0]).focus()",
        "CryptoPerp1hKdata",
    )
    page.press(Keys.ENTER)
    page.until(
        lambda: (
            page.run("return document.querySelector('#coverage-table').value") == "binance/CryptoPerp1hKdata"
        ),
        "the table is not chosen",
    )
    assert page.focused() == "coverage-table"
    page.until(lambda: page.text("#chart-caption").startswith("BTCUSDT 1h"), "its chart is not shown")


def test_the_focus_stays_while_numbers_change(page: Browser, recorder: Recorder) -> None:
    page.run("document.querySelector('#coverage tbody button').focus()")
    name = page.focused()
    before = page.text("#tables tbody")
    recorder.series("binance", "CryptoPair1mKdata", "aaausdt", candles("1m", 77))
    page.until(lambda: page.text("#tables tbody") != before, "no number changed")
    assert page.focused() == name


@pytest.mark.parametrize("width", [320, 640, 961])
def test_no_screen_has_to_be_scrolled_sideways(
    browser: Browser, serve: Serve, app: Flask, recorder: Recorder, width: int
) -> None:
    recorder.series("binance", "CryptoPair1mKdata", "a" * 40 + "usdt", candles("1m", 20))
    browser.size(width, 640)
    browser.open(serve(app).url)
    browser.until(lambda: browser.is_live() and points(browser) > 0, "no chart")
    browser.run("document.querySelector('#chart details').open = true")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    wide = browser.run(
        "return [...document.querySelectorAll('body *')].filter(e => !e.matches('.skip, thead *, svg *'))"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    for part in ("providers", "coverage", "chart"):
        browser.run("document.getElementById(arguments[0]).scrollIntoView()", part)
        browser.screenshot(f"{width}-{part}")


def test_dark_mode(page: Browser) -> None:
    page.until(lambda: points(page) > 0, "no chart")
    page.colour_scheme("dark")
    assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    page.until(
        lambda: (
            page.run("return document.querySelector('#plot .xtick text').style.fill") == "rgb(232, 234, 237)"
        ),
        "the chart did not follow",
    )
    page.screenshot("dark")


def test_numbers_change_as_rows_are_written(page: Browser, recorder: Recorder) -> None:
    select_hourly(page)
    page.choose("#chart-table", "CryptoPair1hKdata (binance)")
    page.until(
        lambda: "Last close" in page.text("#chart-caption") and "SOLUSDT" in page.text("#chart-caption"),
        "no chart",
    )
    caption = page.text("#chart-caption")
    recorder.series("binance", "CryptoPair1hKdata", "solusdt", candles("1h", 10, first=FIRST + 250 * HOUR_MS))
    page.until(lambda: "210" in page.text("#coverage tbody"), "the rows did not change")
    page.until(lambda: page.text("#chart-caption") != caption, "the chart did not change")
    assert page.errors() == []


def test_a_page_that_is_not_looked_at_asks_nothing(page: Browser) -> None:
    page.run(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    time.sleep(1)  # a round that is under way ends
    page.hosts()
    time.sleep(5)
    assert page.hosts() == set()
    page.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    page.until(page.hosts, "it does not ask again")


def test_recorded_names_are_never_markup(
    browser: Browser, serve: Serve, app: Flask, recorder: Recorder
) -> None:
    from zvt_crypto.store.writer import Entity, SeriesWriter

    spec = recorder.tables.find("CryptoPair1hKdata")
    with recorder.store.connect("binance", spec) as connection:
        writer = SeriesWriter(connection, spec)
        key = writer.entity_key(Entity(f"cryptopair_binance_{HOSTILE}", HOSTILE, HOSTILE))
        writer.write_page(key, candles("1h", 50), answered=[(FIRST, FIRST + 50 * HOUR_MS)])
    browser.open(serve(app).url)
    browser.until(browser.is_live, "the page is not live")
    browser.choose("#coverage-table", "CryptoPair1hKdata (binance)")
    browser.until(
        lambda: browser.texts("#coverage tbody th") == [HOSTILE], "the symbol is not shown as it is"
    )
    browser.choose("#chart-table", "CryptoPair1hKdata (binance)")
    browser.until(lambda: browser.text("#chart-caption").startswith(HOSTILE), "its chart is not shown")
    assert browser.count("img") == 0
    assert browser.errors() == []


def test_nothing_recorded_names_the_command(browser: Browser, serve: Serve, settings: Settings) -> None:
    browser.open(serve(create_app(settings)).url)
    browser.until(browser.is_live, "the page is not live")
    assert "zvt-crypto record --provider binance" in browser.text("#nothing")
    assert browser.count("section:not([hidden])") == 1
    browser.screenshot("nothing")
    Recorder(Store(settings)).series("binance", "CryptoPair1hKdata", "btcusdt", candles("1h", 5))
    browser.until(
        lambda: browser.texts("#providers tbody th") == ["binance"], "it does not notice the first rows"
    )
    assert browser.count("#nothing[hidden]") == 1


def test_a_table_that_cannot_be_read_is_shown(browser: Browser, serve: Serve, settings: Settings) -> None:
    store = Store(settings)
    recorder = Recorder(store)
    recorder.series("binance", "CryptoPair1hKdata", "btcusdt", candles("1h", 5))
    broken = store.path("okx", recorder.tables.find("CryptoPair1hKdata"))
    broken.parent.mkdir()
    broken.write_bytes(b"no database" * 1000)
    browser.open(serve(create_app(settings)).url)
    browser.until(browser.is_live, "the page is not live")
    assert browser.texts("#providers tbody td.state") == ["recording", "a table cannot be read"]
    assert "database" in browser.text("#tables td.error")
    browser.until(lambda: points(browser) == 5, "the sound table has no chart")


def test_a_server_that_is_gone_is_told(browser: Browser, serve: Serve, app: Flask) -> None:
    served = Served(app)
    browser.open(served.url)
    browser.until(browser.is_live, "the page is not live")
    served.stop()
    browser.until(lambda: "The server does not answer." in browser.text("#failure"), "nothing is told")
    assert "zvt-crypto serve" in browser.text("#failure")
    assert "What is shown is from" in browser.text("#failure")
    assert browser.text("#status") == "Not connected"
    assert browser.texts("#providers tbody th") == ["binance", "okx"]
    browser.screenshot("gone")


@pytest.fixture
def streaming(market: Settings) -> Iterator[LiveServer]:
    """The whole server, with an exchange whose live data the test publishes."""
    with serving(market) as server:
        yield server


def start_live(browser: Browser, server: LiveServer) -> None:
    browser.open(server.url)
    browser.until(lambda: browser.count("#live:not([hidden])"), "there is no live section")
    assert "nothing is asked for before the start" in browser.text("#live-status")
    assert server.service.clients == 0
    browser.choose("#live-provider", "binance")
    browser.driver.find_element(By.ID, "live-symbol").clear()
    browser.driver.find_element(By.ID, "live-symbol").send_keys("BTC/USDT", Keys.ENTER)
    browser.until(lambda: browser.text("#live-status") == "Waiting for binance", "it does not wait")


def publish_live(server: LiveServer) -> None:
    publisher = server.publisher

    def do() -> None:
        for feed in ("trades", "candles"):
            publisher.live(publisher.topic(feed))  # type: ignore[arg-type]
        publisher.trade(101.5, 102.5)
        publisher.candle(NOW, 104.25, is_closed=False)

    server.do(do)


def test_trades_and_candles_are_shown_live(browser: Browser, streaming: LiveServer) -> None:
    start_live(browser, streaming)
    publish_live(streaming)
    browser.until(
        lambda: browser.text("#live-status") == "BTC/USDT of binance is live", "it is not told to be live"
    )
    browser.until(lambda: browser.count("#live-tape tbody tr") == 2, "there are no trades")
    first = browser.texts("#live-tape tbody tr")[0].split()
    assert first == ["00:00:00.000", "sell", "102.5", "0.5"]
    browser.until(lambda: browser.count("#live-candles rect") == 2, "there is no candle")
    assert browser.text("#live-candle") == (
        "2024-06-01 00:00 UTC, under way: open 100, high 104.25, low 100, close 104.25, volume 2.5"
    )
    streaming.do(lambda: streaming.publisher.candle(NOW, 99.5, is_closed=True))
    browser.until(lambda: "closed: open 100" in browser.text("#live-candle"), "the candle is not closed")
    streaming.do(lambda: streaming.publisher.trade(*(float(n) for n in range(1, 101))))
    browser.until(lambda: "100" in browser.texts("#live-tape tbody tr")[0].split(), "the tape stands still")
    assert browser.count("#live-tape tbody tr") == 20
    browser.run("document.querySelector('#live').scrollIntoView()")
    browser.screenshot("live")
    assert browser.hosts() == {"127.0.0.1"}
    assert browser.errors() == []
    browser.driver.find_element(By.ID, "live-switch").click()
    browser.until(lambda: streaming.service.clients == 0, "it is still connected")
    assert browser.text("#live-status") == "Stopped. What is shown is not live."


def test_what_is_not_live_any_more_says_so(browser: Browser, streaming: LiveServer, market: Settings) -> None:
    start_live(browser, streaming)
    publish_live(streaming)
    browser.until(lambda: "is live" in browser.text("#live-status"), "it is not live")
    publisher = streaming.publisher
    streaming.do(lambda: publisher.lose(publisher.topic("trades"), "the exchange has gone"))
    wanted = "binance is interrupted: the exchange has gone. What is shown is not live."
    browser.until(lambda: browser.text("#live-status") == wanted, "the loss is not told")
    assert browser.run("return getComputedStyle(document.querySelector('#live-shown')).opacity") == "0.5"
    streaming.do(lambda: publisher.live(publisher.topic("trades")))
    browser.until(lambda: "is live" in browser.text("#live-status"), "it is not live again")
    streaming.stop()
    browser.until(lambda: browser.text("#live-status").startswith("Not connected"), "nothing is told")
    assert "What is shown is not live." in browser.text("#live-status")
    browser.run("document.querySelector('#live').scrollIntoView()")
    browser.screenshot("live-gone")
    with LiveServer(market, port=streaming.port) as again:
        browser.until(lambda: again.service.hub.subscriptions == 2, "it does not come back")
        publish_live(again)
        browser.until(lambda: "is live" in browser.text("#live-status"), "it is not live again")


def test_a_symbol_that_there_is_not_is_told_with_advice(browser: Browser, streaming: LiveServer) -> None:
    browser.open(streaming.url)
    browser.until(lambda: browser.count("#live:not([hidden])"), "there is no live section")
    browser.choose("#live-provider", "binance")
    browser.driver.find_element(By.ID, "live-symbol").clear()
    browser.driver.find_element(By.ID, "live-symbol").send_keys("<b>btcusdd", Keys.ENTER)
    browser.until(lambda: "unknown binance pair '<b>btcusdd'" in browser.text("#live-status"), "no refusal")
    assert browser.text("#live-switch") == "Start"
    assert browser.errors() == []


def test_a_page_that_is_not_looked_at_is_not_streamed_to(browser: Browser, streaming: LiveServer) -> None:
    start_live(browser, streaming)
    browser.run(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    browser.until(lambda: streaming.service.clients == 0, "it is still connected")
    publish_live(streaming)
    browser.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    browser.until(lambda: browser.count("#live-tape tbody tr") == 2, "what came meanwhile is not there")


def test_the_reference_lists_the_api(browser: Browser, serve: Serve, app: Flask) -> None:
    browser.open(f"{serve(app).url}/docs")
    browser.until(lambda: browser.count(".opblock") > 10, "no operation is listed")
    paths = browser.run("return [...document.querySelectorAll('[data-path]')].map(e => e.dataset.path)")
    assert {"/api/data/CryptoPair1mKdata", "/api/crypto/overview"} <= set(paths)
    browser.run(
        "document.querySelector('[data-path=\"/api/crypto/overview\"]').closest('.opblock')"
        ".querySelector('.opblock-summary-control').click()"
    )
    browser.until(
        lambda: browser.count(".opblock-body .responses-wrapper") == 1, "an operation does not open"
    )
    browser.run("document.querySelector('.try-out__btn').click()")
    browser.until(lambda: browser.count(".execute") == 1, "it cannot be tried")
    browser.run("document.querySelector('.execute').click()")
    answered = ".live-responses-table tbody .response-col_status"
    browser.until(lambda: browser.texts(answered) == ["200"], "no answer")
    browser.screenshot("docs")
    assert browser.hosts() == {"127.0.0.1"}
    assert browser.errors() == []
