"""A real headless Chromium for pages from disk and of this machine's servers; skipped with a reason where it is not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import pytest

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no name is looked up
)  # fmt: skip
FONTS = """<?xml version="1.0"?>
<fontconfig>
<dir>{shipped}</dir><cachedir>{cache}</cachedir>
<match target="pattern"><edit name="family" mode="assign" binding="strong"><string>DejaVu Sans</string></edit></match>
</fontconfig>
"""  # whatever family a page asks for, so that its layout is the same on every machine


@contextmanager
def chromium(profile: Path, *, dark: bool = False, flags: tuple[str, ...] = ()) -> Iterator[Any]:
    """A browser without a network, that notes every request and every line of its console."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    fonts = profile / "fonts.conf"
    profile.mkdir(parents=True, exist_ok=True)
    shipped = Path(matplotlib.get_data_path()) / "fonts/ttf"
    fonts.write_text(FONTS.format(shipped=shipped, cache=profile / "fonts"), encoding="utf-8")
    service = Service(driver, env={**os.environ, "FONTCONFIG_FILE": str(fonts)})
    page = webdriver.Chrome(options=options, service=service)
    try:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        page.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})  # as a window in front has it
        page.get("about:blank")
        page.get_log("performance")  # the browser's own first page
        yield page
    finally:
        page.quit()


def open_at(page: Any, path: Path | str, *, width: int, height: int = 900) -> None:
    """Open a file or a URL in a window whose page is so many CSS pixels wide."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.get(path if isinstance(path, str) else path.as_uri())


def requests_of(page: Any) -> list[str]:
    """Addresses that the page requested for, data in the page itself left out."""
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith("data:")]


def screenshot(page: Any, path: Path) -> None:
    """The whole page, however long."""
    import base64

    shot = page.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
    path.write_bytes(base64.b64decode(shot["data"]))
