"""Headless Chromium for tests of the dashboard: starts it, reads the page's texts, keeps the console's messages."""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.request
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.support.eventually import eventually

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--lang=en-GB",
)

LOST = ("net::ERR_CONNECTION_REFUSED", "net::ERR_INCOMPLETE_CHUNKED_ENCODING", "net::ERR_EMPTY_RESPONSE",
        "net::ERR_CONNECTION_RESET")  # fmt: skip
"""Console messages of the browser itself about a listener that is gone. They do not come from the page."""


class Browser:
    """One page at a time. Use as a context manager. `log` has all errors and warnings of the console."""

    def __init__(self) -> None:
        # Chromium puts a Unix socket into its directory for temporary files; the path of one has at most 107 bytes.
        short = "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()
        self._profile = tempfile.TemporaryDirectory(prefix="sidecar-chromium-", dir=short, ignore_cleanup_errors=True)
        options = Options()
        options.binary_location = shutil.which("chromium") or ""
        for flag in [*FLAGS, f"--user-data-dir={self._profile.name}", "--window-size=1440,900"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        environment = os.environ | {"TMPDIR": self._profile.name}
        service = Service(executable_path=shutil.which("chromedriver"), env=environment)
        try:
            self.driver = webdriver.Chrome(options=options, service=service)
        except BaseException:
            self._profile.cleanup()
            raise
        self.driver.set_page_load_timeout(60)
        self.driver.set_script_timeout(60)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        before = urllib.request._opener
        self.driver.quit()  # by `urlopen`, which makes an opener that all of the process would share
        urllib.request._opener = before
        self._profile.cleanup()

    def look(self, *, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        """Sets the viewport's size and the preferred colour scheme, until the next call."""
        phone = width < 500
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        motion = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, motion]})

    def open(self, url: str) -> None:
        """Loads the page anew, even if only the hash differs."""
        self.driver.get("about:blank")
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        """The visible text of the first such element; empty if there is none."""
        return self.run(
            "const node = document.querySelector(arguments[0]);"
            " return node ? node.innerText.replace(/\\s+/g, ' ') : ''",
            css,
        )

    def wait(self, css: str, *words: str, timeout: float = 20.0) -> str:
        """Waits until an element's text contains all these words."""

        def says() -> str:
            text = self.text(css)
            assert self.all(css), f"no {css}"
            assert all(word in text for word in words), f"{css} says {text!r}"
            return text

        return eventually(says, timeout, 0.05)

    def until(self, check: Callable[[], Any], timeout: float = 20.0) -> Any:
        return eventually(check, timeout, 0.05)

    def complaints(self, *but: str) -> list[str]:
        """Errors and warnings of the console since the last call, except those that contain one of these words."""
        said = [f"{one['level']}: {one['message']}" for one in self.driver.get_log("browser")]
        return [
            line for line in said if line.startswith(("SEVERE", "WARNING")) and not any(word in line for word in but)
        ]

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """`whole`: the page to its end, not only the part on the screen."""
        more = {"captureBeyondViewport": True} if whole else {}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", **more})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b64decode(shot["data"]))
