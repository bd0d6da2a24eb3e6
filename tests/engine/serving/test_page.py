"""The page in a browser: a cook drops a photo, sees recipes and where the model looked."""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.engine.serving.conftest import HOSTILE, photo_of
from tests.engine.serving.servers import Server

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the page in a browser")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None and not os.environ.get("HFICMA_NEEDS_BROWSER"):
    pytest.skip("no chromium on the path: apt install chromium", allow_module_level=True)

SECONDS = 30_000.0
"""Milliseconds that anything on the page may take on a loaded machine."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; closed with the module, since its event loop would be in others' way."""
    assert CHROMIUM, "HFICMA_NEEDS_BROWSER is set, and there is no chromium on the path"
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page on a desk, which must ask no other host and break no rule of its policy."""
    yield from opened(browser, server, width=1280, height=900)


@pytest.fixture
def phone(browser: Browser, server: Server) -> Iterator[Page]:
    """The page on a narrow phone, in the dark."""
    yield from opened(
        browser, server, width=360, height=740, color_scheme="dark", has_touch=True, is_mobile=True
    )


def opened(
    browser: Browser, server: Server, *, width: int, height: int, **options: object
) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": width, "height": height}, **options)  # type: ignore[arg-type]
    context.set_default_timeout(SECONDS)
    page = context.new_page()
    hosts: set[str | None] = set()
    faults: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda line: faults.append(line.text) if "Content Security" in line.text else None,
    )
    page.goto(server.url)
    until(page, "document.getElementById('served').textContent !== ''")
    yield page
    assert hosts <= {"127.0.0.1", None}, hosts  # None: blob: and data:
    assert not faults
    context.close()


def until(page: Page, script: str) -> None:
    """Wait for a condition; Playwright's own waiting evaluates text, which the policy forbids."""
    end = time.monotonic() + SECONDS / 1000
    while not page.evaluate(script):
        assert time.monotonic() < end, script
        time.sleep(0.02)


def drop(page: Page, content: bytes, name: str = "dinner.png", kind: str = "image/png") -> None:
    """Drop a file on the page, as from a folder."""
    page.evaluate(
        """([content, name, type]) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], name, { type }));
            const event = { dataTransfer, bubbles: true, cancelable: true };
            document.getElementById("drop").dispatchEvent(new DragEvent("drop", event));
        }""",
        [base64.b64encode(content).decode(), name, kind],
    )


def answers(page: Page) -> list[str | None]:
    """The ids of the cards, when the page has looked."""
    page.wait_for_selector(".card")
    until(page, "!document.querySelector('#status.busy')")
    return page.eval_on_selector_all(".card", "cards => cards.map((card) => card.dataset.id)")


def test_a_dropped_photo_is_answered_and_its_ingredients_show_where_the_model_looked(
    page: Page, server: Server
) -> None:
    """The whole of what a newcomer does."""
    with server.client() as client:
        found = client.post("/search", files={"photo": photo_of(7)}, data={"k": "10"}).json()
        ids = [hit["id"] for hit in found["hits"]]
        looked = client.post("/explain", files={"photo": photo_of(7)}, data={"ids": ids}).json()
    drop(page, photo_of(7))
    assert answers(page) == ids
    first = page.locator(".card").first
    assert found["hits"][0]["title"] in first.inner_text()
    assert f"fit {found['hits'][0]['score']:.2f}" in first.inner_text()
    assert "Checked against all 24 recipes" in page.inner_text("#summary")
    assert page.get_attribute(".card a", "href") == found["hits"][0]["url"]
    button = first.locator(".ingredients button").first
    button.hover()
    shades = looked["items"][0]["ingredients"][0]["shades"]
    text = looked["items"][0]["ingredients"][0]["text"]
    assert text in page.inner_text("#caption")
    assert page.evaluate("document.getElementById('heat').classList.contains('on')") == any(shades)
    # The other way round: a place in the photo, by mouse and by keys.
    page.hover("#frame", position={"x": 30, "y": 30})
    assert page.is_visible("#cell")
    page.focus("#frame")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#caption")
    page.keyboard.press("Escape")
    assert not page.is_visible("#cell")
    page.click(".card summary >> nth=0")
    assert found["hits"][0]["instructions"][0] in first.inner_text()


def test_chips_filter_and_can_be_taken_away(page: Page, server: Server) -> None:
    """`without butter` must hold for every card, and the photo need not be dropped again."""
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": photo_of(3)})
    before = answers(page)
    page.fill("#without input", "butter")
    page.keyboard.press("Enter")
    until(page, "!document.querySelector('#cards').innerText.includes('butter')")
    assert answers(page) != before
    page.fill("#with input", "unicorn")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#summary').innerText.startsWith('None of')")
    page.click("#with .chip")
    page.click("#without .chip")
    until(page, f"document.querySelectorAll('.card').length === {len(before)}")


def test_ingredients_find_photos_and_hostile_titles_stay_text(page: Page) -> None:
    """The reverse search; what recipes hold is shown, never run."""
    page.click("#mode-text")
    page.fill("#text", "milk, rice, butter, flour, soup")
    page.click("text=Find photos")
    answers(page)
    until(page, "[...document.querySelectorAll('.thumb')].some((image) => image.naturalWidth > 0)")
    title = page.title()
    page.evaluate(
        """async (hostile) => {
            const { cardOf } = await import("/static/cards.js");
            const hit = { rank: 1, id: hostile, title: hostile, score: 1, global_score: 1,
              local_score: 1, ingredients: [hostile], instructions: [hostile],
              url: "javascript:document.title=1" };
            const options = { index: { photos: false }, onIngredient() {} };
            document.getElementById("cards").replaceChildren(cardOf(hit, options));
        }""",
        HOSTILE,
    )
    assert "onerror" in page.inner_text(".card")
    assert page.locator(".card img, .card a").count() == 0
    assert page.title() == title


def test_what_is_no_photo_is_said_in_words(page: Page) -> None:
    """An error is a sentence of the project's, under a heading that a cook understands."""
    drop(page, b"just text", "notes.txt", "text/plain")
    page.wait_for_selector("#problem:visible")
    assert "This cannot be used" in page.inner_text("#problem")
    assert "no image that can be read" in page.inner_text("#problem")
    drop(page, photo_of(5))
    assert answers(page)
    assert not page.is_visible("#problem")


def test_a_phone_needs_no_sideways_scrolling_and_has_a_camera(phone: Page) -> None:
    """360 pixels, touched, in the dark."""
    assert phone.is_visible("label[for=camera]")
    assert phone.get_attribute("#camera", "capture") == "environment"
    drop(phone, photo_of(7))
    answers(phone)
    phone.wait_for_selector(".ingredients button")
    phone.locator(".ingredients button").first.tap()
    assert phone.inner_text("#caption")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 360
    assert phone.locator("#frame").bounding_box()["width"] < 200  # type: ignore[index]
    colour = phone.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in colour[4:-1].split(",")) < 64


def test_everything_has_a_name_for_a_screen_reader(page: Page) -> None:
    """Buttons, fields and pictures without one are silence."""
    drop(page, photo_of(7))
    answers(page)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea, img, [tabindex='0']")]
            .filter((one) => !(one.textContent.trim() || one.getAttribute("aria-label")
              || one.labels?.length || one.hasAttribute("alt")))
            .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    assert page.get_attribute("#status", "role") == "status"
    assert page.get_attribute("#problem", "role") == "alert"


def test_the_page_for_programs_draws_the_document(page: Page, server: Server) -> None:
    """Examples that can be pasted, without scripts of another host."""
    page.goto(f"{server.url}/docs")
    page.wait_for_selector(".operation")
    assert f"curl -F photo=@photo.jpg {server.url}/search" in page.inner_text("#docs")
