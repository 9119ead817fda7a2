"""Takes pictures of the landing page: `python -m tools.landing FOLDER`.

Four states (working, the API lost, never polled, 10,000 models), in light and dark, on a desktop and a phone.
Fails where a page is wider than its screen, or where the browser complains, as it does of what the page's
policy forbids. Needs Chromium and a package that is in no lock: `.venv/bin/pip install playwright`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

from playwright.sync_api import Browser, ConsoleMessage, sync_playwright

from exporter.simulator import DEMO_API_KEY
from tools.benchmarks.processes import fetch, started, wait_until

_SCREENS = {"desktop": (1280, 900), "phone": (390, 844)}


class Exporter:
    """An exporter that runs, and what it logs."""

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen
        serving = self.logged("serving")
        self.url, self.api = serving["url"], serving["api"]

    def logged(self, message: str) -> Mapping[str, str]:
        """Return the next line of the log with this message, once it is there."""
        for line in self._popen.stderr or ():
            entry: Mapping[str, str] = json.loads(line)
            if entry["msg"] == message:
                return entry
        raise RuntimeError(f"the exporter ended without {message!r}")


def main() -> int:
    """Take the pictures; print what is wrong with them and return 1 when something is."""
    parser = argparse.ArgumentParser(prog="python -m tools.landing", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    with states() as pages, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for (state, url), scheme, screen in product(pages.items(), ("light", "dark"), _SCREENS):
            file = folder / f"landing-{state}-{scheme}-{screen}.png"
            faults += (f"{file.name}: {fault}" for fault in picture(browser, url, scheme, screen, file))
        browser.close()
    print(*faults, sep="\n", file=sys.stderr)
    return int(bool(faults))


def picture(browser: Browser, url: str, scheme: str, screen: str, file: Path) -> list[str]:
    """Take a picture of the whole page; return what is wrong with it."""
    faults: list[str] = []

    def complain(message: ConsoleMessage) -> None:
        faults.append(message.text)

    width, height = _SCREENS[screen]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.on("console", complain)
    page.goto(url)
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        faults.append("wider than the screen")
    page.screenshot(path=file, full_page=True)
    page.close()
    return faults


@contextmanager
def states() -> Iterator[Mapping[str, str]]:
    """Serve the page in each state, and yield its URLs."""
    with ExitStack() as stack:
        key = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "key"
        key.write_text(DEMO_API_KEY, encoding="utf-8")
        polling = ("serve", f"--cohere.api-key-file={key}", "--poll.interval=1s", "--poll.stale-after=1h")
        working = stack.enter_context(exporter("demo"))
        many = stack.enter_context(exporter("demo", "--demo.models=10000", "--models.limit=0"))
        with exporter("demo") as api:
            lost = stack.enter_context(exporter(*polling, f"--cohere.base-url={api.api}"))
            wait_until(lambda: b'class="curve"' in fetch(lost.url))
            unreachable = api.api
        never = stack.enter_context(exporter(*polling, f"--cohere.base-url={unreachable}"))
        lost.logged("poll failed")
        never.logged("poll failed")
        many.logged("models listed")
        wait_until(lambda: b'class="curve"' in fetch(working.url))
        yield {"working": working.url, "lost": lost.url, "never": never.url, "many": many.url}


@contextmanager
def exporter(command: str, *flags: str) -> Iterator[Exporter]:
    """Run an exporter on a port of its own until the block ends."""
    usual = ("--demo.seed=7", "--demo.speed=1", "--web.listen-address=127.0.0.1:0", "--log.format=json")
    arguments = [sys.executable, "-m", "exporter", command, *usual, *flags]
    with started(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as popen:
        yield Exporter(popen)


if __name__ == "__main__":
    sys.exit(main())
