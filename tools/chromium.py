"""The system's Chromium, driven without a window and without a way to any other host."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright
from system_packages import find_browser, why_no_browser

SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser; its path comes from SEQBOOK_CHROMIUM if that is set.

    Raises:
        FileNotFoundError: There is none.
    """
    if reason := why_no_browser():
        raise FileNotFoundError(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(SWITCHES))
        try:
            yield browser
        finally:
            browser.close()
