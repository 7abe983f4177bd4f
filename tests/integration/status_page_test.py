"""The status page in a browser, over the built service and real subscribers."""

import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import unittest

from selenium import webdriver
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.keys import Keys

from servers import Redis, stop_process
from service import Service, eventually, free_port, subscription

ROWS = "return [...document.querySelectorAll('#%s tbody tr')].map((row) => row.innerText.replace(/\\s+/g, ' '))"
MANY = 10000


class Browser(webdriver.Chrome):
    """Headless Chromium with a profile of its own; what its console says is kept."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="ev", dir="/tmp")
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        # As root Chromium refuses its sandbox, and it need not reach anybody but us.
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
                     "--no-first-run", "--user-data-dir=" + self.profile):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        super().__init__(service=Driver("/usr/bin/chromedriver"), options=options)

    def see(self, width, height=900, scheme="light"):
        self.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                             {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
        self.execute_cdp_cmd("Emulation.setEmulatedMedia",
                             {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def text(self, selector):
        return self.execute_script("return document.querySelector(arguments[0]).textContent", selector)

    def rows(self, table):
        return self.execute_script(ROWS % table)

    def row_with(self, table, *texts):
        """The text of the first row that has all of `texts`, or None."""
        return next((row for row in self.rows(table) if all(text in row for text in texts)), None)

    def quit(self):
        super().quit()
        shutil.rmtree(self.profile, ignore_errors=True)


class StatusPageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.quit()

    def setUp(self):
        self.service = Service("--failover_timeout=1s")
        self.servers = []

    def tearDown(self):
        try:
            said = [entry["message"] for entry in self.browser.get_log("browser")]
            self.assertEqual([text for text in said if self.service.http in text], [], "the console is empty")
        finally:
            self.browser.get("about:blank")
            self.browser.see(1280)
            for server in self.servers:
                server.close()
            if self.service.process.poll() is None:
                self.assertEqual(self.service.stop(), 0)

    def open(self, path="/"):
        self.browser.get("http://" + self.service.http + path)
        eventually(lambda: self.browser.text("#verdict"), "the page shows something")

    def shown(self, table, *texts):
        return eventually(lambda: self.browser.row_with(table, *texts), "%s shows %s" % (table, texts))

    def picture(self, name):
        """For who looks at the pages: with $PICTURES, a folder, the whole page goes there."""
        if "PICTURES" in os.environ:
            height = self.browser.execute_script("return document.documentElement.scrollHeight")
            width = self.browser.execute_script("return innerWidth")
            self.browser.see(width, min(height, 2500), "dark" if "dark" in name else "light")
            self.browser.save_screenshot(os.path.join(os.environ["PICTURES"], name + ".png"))

    def test_rows_appear_go_red_when_a_subscriber_is_killed_and_recover(self):
        self.open()
        self.assertIn("Nobody is subscribed", self.browser.text("#verdict"))
        redis = Redis()
        self.servers.append(redis)
        path = os.path.join(self.service.dir, "lost.log")
        self.service.subscribe("E_CALL", "virtual:FAILOVER %s flatstore:%s" % (redis.uri, path), ttl=600)
        self.shown("subscriptions", "active", "E_CALL", "FAILOVER", redis.uri, path, "9 min")
        self.shown("endpoints", "idle", redis.uri)
        self.service.raise_event("E_CALL", n="1")
        self.shown("endpoints", "healthy", redis.uri, "last delivered")
        self.shown("events", "E_CALL", "1")
        self.assertTrue(eventually(lambda: "All works" in self.browser.text("#verdict"), "the verdict is good"))

        first = self.countdown()
        eventually(lambda: self.countdown() < first, "the time to expiry counts down")

        redis.kill()
        self.service.raise_event("E_CALL", n="2")
        self.shown("endpoints", "✖", redis.uri, "down for", "since", "onnect")  # "connection refused" and the like
        self.shown("subscriptions", "degraded", "E_CALL", "✖")
        self.assertIn("1 endpoint is failing", self.browser.text("#verdict"))
        self.assertIn(redis.uri, self.browser.rows("endpoints")[0], "what fails stands first")
        red = self.browser.execute_script(
            "const row = document.querySelector('#endpoints tbody tr'), good = row.nextElementSibling;"
            "return [getComputedStyle(row).backgroundColor, getComputedStyle(good).backgroundColor]")
        self.assertNotEqual(red[0], red[1])
        self.assertIn("1 failing", self.browser.title)
        self.picture("failing")

        redis.start()

        def works():
            self.service.raise_event("E_CALL", n="3")
            return "All works" in self.browser.text("#verdict")
        eventually(works, "it works again", 30)
        self.shown("endpoints", "healthy", redis.uri, "last error")
        self.shown("subscriptions", "active", "E_CALL")
        for plot in ("#totals", "#endpoints tbody tr"):
            drawn = self.browser.execute_script(
                "const plot = document.querySelector(arguments[0] + ' svg[role=img]');"
                "return [plot.getAttribute('aria-label'), plot.querySelectorAll('path.line').length]", plot)
            self.assertRegex(drawn[0], r"delivered [\d.]+/s now, failed [\d.]+/s, peak [\d.]*[1-9][\d.]*/s")
            self.assertEqual(drawn[1], 2, "what was delivered and what failed, of the last minutes")

    def countdown(self):
        text = self.browser.text("#subscriptions .countdown")
        minutes, seconds = re.fullmatch(r"(?:(\d+) min )?(\d+) s", text).groups()
        return int(minutes or 0) * 60 + int(seconds)

    def test_what_a_peer_or_a_client_says_is_text(self):
        script = "<script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"

        def answer():
            with lure.accept()[0] as peer:
                peer.recv(65536)
                peer.sendall(('{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"%s"}}' % script.replace('"', '\\"')).encode())
                peer.recv(65536)
        lure = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(lure.close)
        threading.Thread(target=answer, daemon=True).start()
        request = self.request("E_EVIL", "tcp:127.0.0.1:%d?reliable=1" % lure.getsockname()[1])
        request.subscription.labels["note"] = script
        request.subscription.filter = "n!=" + script.replace(" ", "").replace('"', "")
        self.service.subscriptions.Subscribe(request, timeout=10)
        self.service.subscribe("E_SECRET", "rabbitmq:guest:s3cr3t@127.0.0.1:%d/q" % free_port())
        self.service.raise_event("E_EVIL", n="1")
        self.service.raise_event("E_SECRET", n="1")
        self.open()
        self.assertIn("<img src=x", self.shown("subscriptions", "E_EVIL", "failing"))
        self.shown("endpoints", "rabbitmq:guest:***@", "✖")
        self.assertNotIn("s3cr3t", self.browser.page_source)
        self.assertEqual(self.browser.execute_script("return document.querySelectorAll('img, section script').length"), 0)
        self.assertNotIn("broken", self.browser.title)

    def request(self, name, socket_text):
        request = subscription.SubscribeRequest()
        request.subscription.event, request.subscription.socket = name, socket_text
        request.subscription.ttl.FromSeconds(3600)
        return request

    def test_a_server_that_does_not_answer_is_told_and_so_is_its_return(self):
        self.service.subscribe("E", "udp:127.0.0.1:9")
        self.open()
        stop_process(self.service.process.pid)
        said = eventually(lambda: self.browser.text("#stale"), "it is told")
        self.assertRegex(said, r"No answer since \d\d:\d\d:\d\d .*What you see is old")
        self.assertEqual(self.browser.text("#verdict"), "", "nothing is said to be well meanwhile")
        self.assertTrue(self.browser.row_with("subscriptions", "E"), "what was known last stays")
        self.service.process.send_signal(signal.SIGCONT)
        eventually(lambda: not self.browser.text("#stale") and self.browser.text("#verdict"), "it is forgotten again")

    def test_nothing_is_asked_while_nobody_looks(self):
        self.open()
        self.browser.execute_script(
            "window.asked = 0; const plain = fetch; window.fetch = (...all) => (++window.asked, plain(...all));"
            "Object.defineProperty(document, 'hidden', {get: () => window.away, configurable: true});"
            "window.away = true; document.dispatchEvent(new Event('visibilitychange'))")
        before = self.browser.execute_script("return window.asked")
        # Longer than two of its pauses, on the browser's own clock.
        self.browser.execute_async_script("setTimeout(arguments[0], 5000)")
        self.assertEqual(self.browser.execute_script("return window.asked"), before)
        asked = self.browser.execute_script("window.away = false; document.dispatchEvent(new Event('visibilitychange')); return window.asked")
        self.assertEqual(asked, before + 1, "at once")
        eventually(lambda: self.browser.execute_script("return window.asked") > before + 1, "and again")

    def test_it_is_worked_with_the_keyboard_alone(self):
        for i in range(120):
            self.service.subscribe("E_%03d" % i, "udp:127.0.0.1:%d" % (20000 + i))
        self.open()
        reached = []
        for _ in range(40):
            self.browser.switch_to.active_element.send_keys(Keys.TAB)
            reached.append(self.browser.execute_script(
                "const e = document.activeElement; return e.id || e.dataset.list && e.dataset.list + ' ' + e.dataset.go || e.tagName"))
        for place in ("filter", "endpoints next", "subscriptions next", "events next", "SUMMARY", "A"):
            self.assertIn(place, reached)
        self.assertEqual(self.browser.execute_script(
            "return [...document.querySelectorAll('a, button, input, summary')].filter((e) => e.tabIndex < 0).length"), 0)

        self.focus("button[data-list=subscriptions][data-go=next]").send_keys(Keys.ENTER)
        self.shown("subscriptions", "E_025")
        self.assertEqual(self.focused(), "subscriptions next", "the focus stays where it was")
        for first in ("E_050", "E_075", "E_100"):
            self.browser.switch_to.active_element.send_keys(Keys.ENTER)
            self.shown("subscriptions", first)
        self.assertEqual(len(self.browser.rows("subscriptions")), 20)
        self.assertEqual(self.focused(), "subscriptions next", "also at the end")
        self.focus("button[data-list=subscriptions][data-go=back]").send_keys(Keys.SPACE)
        self.shown("subscriptions", "E_075")
        self.browser.switch_to.active_element.send_keys("/")
        self.browser.switch_to.active_element.send_keys("e_07")
        eventually(lambda: len(self.browser.rows("subscriptions")) == 10, "the filter is applied")
        self.assertIn("#filter=e_07", self.browser.current_url)
        self.browser.refresh()
        eventually(lambda: len(self.browser.rows("subscriptions")) == 10, "it is in the address")
        self.assertEqual(self.browser.execute_script(
            "return [...document.querySelectorAll('td')].filter((td) => !td.closest('table').querySelector('th[scope=col]')).length"), 0)

    def focus(self, selector):
        self.browser.execute_script("document.querySelector(arguments[0]).focus()", selector)
        return self.browser.switch_to.active_element

    def focused(self):
        return self.browser.execute_script("return document.activeElement.dataset.list + ' ' + document.activeElement.dataset.go")

    def test_it_fits_a_phone_and_the_night(self):
        long = os.path.join(self.service.dir, "a-very-long-name-without-any-blank-in-it" * 4)
        self.service.subscribe("E_" + "LONG" * 30, "virtual:ROUND-ROBIN flatstore:%s tcp:127.0.0.1:%d" % (long, free_port()))
        self.service.raise_event("E_" + "LONG" * 30, n="1")
        self.service.raise_event("E_" + "LONG" * 30, n="2")
        for width in (320, 400, 700, 961, 1280):
            self.browser.see(width)
            self.open()
            self.shown("subscriptions", "E_LONG")
            self.assertLessEqual(self.browser.execute_script("return document.documentElement.scrollWidth"), width)
            if width == 400:
                self.picture("phone")
        light = self.browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        self.browser.see(1280, scheme="dark")
        dark = self.browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        self.assertGreater(sum(map(int, re.findall(r"\d+", light))), 600)
        self.assertLess(sum(map(int, re.findall(r"\d+", dark))), 150)
        self.picture("dark")

    def test_ten_thousand_subscriptions_are_as_light_as_a_few(self):
        stubs = [self.service.subscriptions.Subscribe.future(self.request("E_%05d" % i, "virtual:FAILOVER udp:127.0.0.1:%d flatstore:/tmp/ev-never" % (
            10000 + i % 1000))) for i in range(MANY)]
        for stub in stubs:
            stub.result()
        down = free_port()
        self.service.subscribe("E_LAST", "tcp:127.0.0.1:%d" % down)
        self.service.raise_event("E_LAST", n="1")
        self.open()
        self.shown("subscriptions", "E_LAST", "failing")
        self.assertIn("E_LAST", self.browser.rows("subscriptions")[0], "the one that fails of ten thousand stands first")
        self.assertIn(str(down), self.browser.rows("endpoints")[0])
        self.assertEqual(len(self.browser.rows("subscriptions")), 25)
        self.assertEqual(len(self.browser.rows("endpoints")), 25)
        self.assertIn("10,001", self.browser.text("#subscriptions .head"))
        status, text = self.service.get("/status.json")
        self.assertEqual(status, 200)
        self.assertLess(len(text), 64 << 10)
        nodes = self.browser.execute_script("return document.querySelectorAll('*').length")
        self.assertLess(nodes, 4000)
        self.picture("many")


if __name__ == "__main__":
    unittest.main(verbosity=2)
