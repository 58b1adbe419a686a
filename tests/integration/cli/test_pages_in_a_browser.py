"""The pages in a real browser: what answers hold runs nothing, nothing is asked for, and everybody can read them."""

import asyncio
import base64
from datetime import UTC, datetime

import pytest
from tests.integration.cli import browser
from tests.integration.cli.browser import Browser
from tests.unit.cli.judged_run import SAMPLES, judged

from slipway.local.state import State
from slipway.local.target import LocalTarget
from slipway.records import comparison, files, lineage
from slipway.records.comparison import Side
from slipway.records.record import of_files
from slipway.screen.report import comparison_page, page
from slipway.screen.report.words import Language, Words

PROGRAM = browser.found()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason=f"there is no browser here: none of {', '.join(browser.NAMES)}")

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HOSTILE = (
    "</pre></bdi></title><script>window.stolen = 1</script>"
    "<img src='http://203.0.113.1/x.png' onerror='window.stolen = 1'>"
    "<style>@import 'http://203.0.113.1/x.css';</style>\u202eright to left\u2067"
)
LONG = {"conversations": [{"role": "user", "content": "w" * 5000}], "answer": "x" * 1_000_000, "wanted": "床" * 3000}
ODD = {"conversations": [{"role": "user", "content": HOSTILE}], "answer": HOSTILE, "wanted": "مرحبا", "exact": False}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A report in each language and a comparison, of runs whose answers are hostile and long."""
    workdir = tmp_path_factory.mktemp("runs")
    for name in ("tang", "other"):
        live = [{"sample": 1, "answer": HOSTILE}]
        judged(workdir, name, samples=[*SAMPLES, LONG, {**ODD, "answer": f"{HOSTILE}{name}"}], live=live)
    target = LocalTarget(State.below(workdir))
    runs = [target.run(name) for name in ("tang", "other")]
    a, b = (of_files(run, target.files(run, files.of_run(run))) for run in runs)
    found = comparison.compare(a, Side("other", b, b.status.artifact.digest))
    made = {"compare": comparison_page.page(found, Words(), NOW)}
    for language in Language:
        made[language.value] = page.page(a, lineage.of_run(target, a.run, a), Words(language), NOW)
    for name, text in made.items():
        (workdir / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: workdir / f"{name}.html" for name in made}


def in_browser(steps):
    """Runs steps with a browser; one a test, which takes a second."""

    async def run():
        async with Browser(PROGRAM) as one:
            await steps(one)

    asyncio.run(run())


@pytest.mark.slow
def test_pages_run_nothing_ask_for_nothing_and_fit_every_screen(pages):
    async def steps(tab):
        for name, path in pages.items():
            await tab.open(path)
            assert await tab.run("window.stolen") is None
            assert await tab.run("document.querySelectorAll('script, img, link').length") == 0
            assert await tab.run("document.querySelectorAll('pre').length") >= 3
            assert await tab.run("document.documentElement.lang") == ("zh-Hans" if name == "zh" else "en")
            for wide in (360, 1000):
                await tab.size(wide)
                assert await tab.run("document.documentElement.scrollWidth") <= wide, (name, wide)
                assert await tab.run("document.querySelector('svg.gate').getBoundingClientRect().width") > 100
            # Folded parts too: what is in them must not be wider either.
            await tab.run("document.querySelectorAll('details').forEach(one => one.open = true)")
            await tab.size(360)
            assert await tab.run("document.documentElement.scrollWidth") <= 360, name
        assert {address.partition(":")[0] for address in tab.requests} == {"file"}
        assert not tab.said

    in_browser(steps)


@pytest.mark.slow
def test_pages_are_read_by_keyboard_by_a_screen_reader_in_the_dark_and_on_paper(pages):
    async def steps(tab):
        await tab.size(1000)
        await tab.open(pages["en"])
        await tab.press("Tab")
        assert await tab.run("document.activeElement.className") == "skip"
        assert await tab.run("document.activeElement.getBoundingClientRect().left") >= 0
        await tab.press("Enter")
        assert await tab.run("location.hash") == "#gates"
        reached = []
        for _ in range(12):
            await tab.press("Tab")
            reached.append(await tab.run("document.activeElement.tagName"))
        assert {"DIV", "SUMMARY"} <= set(reached)

        nodes = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
        told = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]
        assert ("heading", "tang") in told
        drawings = [name for role, name in told if role in ("image", "img")]
        assert drawings
        assert all(drawings)
        assert any("bits_per_byte is 2.9 (2.8 to 2.97)" in name for name in drawings)
        assert ("region", "Gates") in told
        assert any(role == "rowheader" and name == "bits_per_byte" for role, name in told)

        colours = {}
        for scheme in ("light", "dark"):
            await tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            colours[scheme] = [await contrast(tab, selector) for selector in ("body", ".soft", "b.Pass", "h4", "text")]
        for scheme, found in colours.items():
            assert min(found) >= 4.5, (scheme, found)

        paper = await tab.call("Page.printToPDF", printBackground=False)
        made = base64.b64decode(paper["data"])
        assert made.startswith(b"%PDF")
        assert 2 <= made.count(b"/Type /Page\n") + made.count(b"/Type /Page/") + made.count(b"/Type /Page ") <= 40

    in_browser(steps)


async def contrast(tab, selector):
    """Returns the contrast of a text to the paper (WCAG 2.2, 1.4.3: 4.5 is enough for small letters)."""
    colours = await tab.run(
        f"[getComputedStyle(document.querySelector('{selector}'))['{selector}' == 'text' ? 'fill' : 'color'],"
        " getComputedStyle(document.body).backgroundColor].join('|')"
    )
    lights = [luminance([int(part) for part in one[4:-1].split(",")]) for one in colours.split("|")]
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def luminance(colour):
    parts = [part / 255 for part in colour]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
