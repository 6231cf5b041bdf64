"""The page in a real browser: what people do there with mouse, finger, pen, keyboard, pictures.

``python -m tests.server.test_page docs/serve.png`` draws the picture of the README.
"""

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import FloatRect, Page, Request, Route, expect

from tests.conftest import Command
from tests.support.browser import (
    CHROMIUM,
    DEVICES,
    ROOT,
    STROKES,
    Chromium,
    Visit,
    browsing,
    serving,
)

STATIC = ROOT / "mnist_lit" / "server" / "static"
PHOTO = ROOT / "docs" / "photo.jpg"
PHOTO_LINES = ["20251", "7403986"]

if not CHROMIUM and "BROWSER_REQUIRED" not in os.environ:
    pytest.skip("the page is not tested: there is no Chromium here", allow_module_level=True)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with browsing() as browser:
        yield browser


@pytest.fixture(params=DEVICES)
def visit(request: pytest.FixtureRequest, browser: Chromium, address: str) -> Iterator[Visit]:
    """A visit in which nothing may go wrong."""
    with browser.visit(address, request.param) as visit:
        yield visit
        assert visit.errors == []


@pytest.fixture
def desk(browser: Chromium, address: str) -> Iterator[Visit]:
    with browser.visit(address) as visit:
        yield visit
        assert visit.errors == []


# ---- writing ----


def test_each_digit_is_read(visit: Visit) -> None:
    for digit in "0123456789":
        visit.write(digit)
        visit.shows(digit)
        expect(visit.page.get_by_role("radio", checked=True)).to_have_count(1)
        expect(visit.page.get_by_role("heading", level=2)).to_contain_text(f"of this {digit}")
        visit.page.get_by_role("button", name="Clear").click()
        visit.shows()


def test_digits_in_a_row_are_a_number_with_boxes_over_them(visit: Visit) -> None:
    visit.write("5026", left=20, top=40, size=90)  # ends in a digit of one stroke, and one answer
    visit.shows("5026")
    visit.says("5026: 4 digits.")
    sheet = visit.place("#pad")
    for number, box in enumerate(visit.boxes):
        left = sheet["x"] + 20 + number * 0.85 * 90
        assert box["x"] == pytest.approx(left, abs=8)
        assert box["x"] + box["width"] == pytest.approx(left + 0.6 * 90, abs=8)
        assert box["y"] == pytest.approx(sheet["y"] + 40, abs=8)
        assert box["y"] + box["height"] == pytest.approx(sheet["y"] + 40 + 90, abs=8)


def test_several_lines_and_sizes_are_read(desk: Visit) -> None:
    desk.write("31", top=30, size=150)
    desk.write("415", top=250, size=120)
    desk.shows("31", "415")
    desk.says("31, 415: 5 digits.")
    desk.page.keyboard.press("Escape")
    desk.write("358", size=30)
    desk.shows("358")
    desk.page.keyboard.press("Escape")
    desk.write("8", left=150, top=20, size=220)
    desk.shows("8")


def test_of_the_digit_chosen_the_probabilities_and_the_glyph_are_shown(visit: Visit) -> None:
    visit.write("27")
    visit.shows("27")
    shares = visit.page.locator("#bars span")
    assert shares.count() == 10
    expect(shares.nth(7)).to_have_text(re.compile(r"^(9\d|100)\.\d%$"))  # the latest is chosen
    seven = glyph(visit)
    visit.page.get_by_role("radio", name="2, sure").check(force=True)
    expect(shares.nth(2)).to_have_text(re.compile(r"^(9\d|100)\.\d%$"))
    assert sum(float(text.removesuffix("%")) for text in shares.all_inner_texts()) == approx(100)
    two = glyph(visit)
    assert min(two.max(), seven.max()) > 220
    assert np.abs(two - seven).mean() > 10


def approx(value: float) -> Any:
    return pytest.approx(value, abs=0.6)  # ten shares, each rounded


def glyph(visit: Visit) -> NDArray[np.float64]:
    """What is shown as seen by the network, ``(28, 28)``."""
    shot = Image.open(io.BytesIO(visit.page.locator("#glyph").screenshot()))
    return np.asarray(shot.convert("L").resize((28, 28)), float)


def test_a_tap_on_a_box_chooses_its_digit_and_draws_nothing(visit: Visit) -> None:
    visit.write("206")
    visit.shows("206")
    box = visit.boxes[1]
    visit.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(visit.page.get_by_role("heading", level=2)).to_contain_text("of this 0")
    visit.shows("206")


def test_the_keyboard_chooses_digits_undoes_and_clears(desk: Visit) -> None:
    desk.write("206")
    desk.shows("206")
    desk.page.get_by_role("radio", checked=True).focus()
    desk.page.keyboard.press("ArrowLeft")
    expect(desk.page.get_by_role("heading", level=2)).to_contain_text("of this 0")
    desk.page.keyboard.press("ArrowLeft")
    expect(desk.page.get_by_role("heading", level=2)).to_contain_text("of this 2")
    for _ in STROKES["6"]:
        desk.page.keyboard.press("Control+z")
    desk.shows("20")
    desk.page.keyboard.press("Escape")
    desk.shows()
    desk.page.keyboard.press("Control+z")  # what was cleared can be had back
    desk.shows("20")
    desk.page.get_by_role("button", name="Undo").click()
    desk.shows("2")


def test_a_stroke_that_is_hardly_a_digit_is_doubtful_in_words_too(desk: Visit) -> None:
    desk.write("1", size=150)
    expect(desk.page.get_by_role("radio", name="doubtful")).to_have_count(1)
    desk.says("1 doubtful")
    expect(desk.page.locator("#digits sup").last).to_have_text("?")


def test_a_pen_writes(desk: Visit) -> None:
    pen = desk.page.context.new_cdp_session(desk.page)
    sheet = desk.place("#pad")
    points = [(sheet["x"] + 50 + 200 * x, sheet["y"] + 50 + 200 * y) for x, y in STROKES["3"][0]]
    kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 2), "mouseReleased"]
    for kind, (x, y) in zip(kinds, points, strict=True):
        event = {"type": kind, "x": x, "y": y, "pointerType": "pen", "button": "left", "buttons": 1}
        pen.send("Input.dispatchMouseEvent", {**event, "clickCount": 1})
    desk.shows("3")


def test_a_stroke_that_the_system_takes_for_its_own_gesture_is_none(
    browser: Chromium, address: str
) -> None:
    with browser.visit(address, "phone") as visit:
        sheet = visit.place("#pad")
        for kind, x in (("touchStart", 50), ("touchMove", 150)):
            visit.touch(kind, [{"x": sheet["x"] + x, "y": sheet["y"] + 200}])
        visit.touch("touchCancel", [])
        visit.write("7")
        visit.shows("7")
        assert visit.errors == []


def test_a_second_finger_makes_a_gesture_of_a_stroke(browser: Chromium, address: str) -> None:
    with browser.visit(address, "phone") as visit:
        sheet = visit.place("#pad")
        first, second = ({"x": sheet["x"] + x, "y": sheet["y"] + 100, "id": x} for x in (50, 200))
        visit.touch("touchStart", [first])
        visit.touch("touchMove", [{**first, "x": first["x"] + 60}])
        visit.touch("touchStart", [first, second])
        visit.touch("touchMove", [first, {**second, "x": second["x"] + 60}])
        visit.touch("touchEnd", [first])
        visit.touch("touchEnd", [])
        expect(visit.page.locator("#hint")).to_be_visible()
        visit.write("7")
        visit.shows("7")
        assert visit.errors == []


def test_without_tls_browsers_give_fewer_points_and_the_page_reads(
    browser: Chromium, address: str
) -> None:
    script = "delete PointerEvent.prototype.getCoalescedEvents"
    with browser.visit(address, script=script) as visit:
        visit.write("3")
        visit.shows("3")
        assert visit.errors == []


def test_the_drawing_survives_another_size_of_the_window(visit: Visit) -> None:
    visit.write("56")
    visit.shows("56")
    visit.page.set_viewport_size({"width": 700, "height": 380})
    sheet = visit.place("#pad")
    visit.shows("56")
    for box in visit.boxes:
        assert sheet["x"] <= box["x"] < box["x"] + box["width"] <= sheet["x"] + sheet["width"]
        assert sheet["y"] <= box["y"] < box["y"] + box["height"] <= sheet["y"] + sheet["height"]
        assert ink(visit.page, box) > 0.02


def ink(page: Page, box: FloatRect) -> float:
    """The share of dark pixels in a part of the page."""
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=box))).convert("L"))
    return float(np.mean(shot < 100))


def test_an_older_answer_never_replaces_a_newer_one(desk: Visit) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route) if not held else route.continue_()

    desk.page.route("**/v1/read*", hold)
    desk.write("1")
    desk.page.wait_for_timeout(100)
    desk.write("2", left=150)
    desk.shows("12")
    answer = {"text": "", "rotation": 0, "lines": []}
    held[0].fulfill(json=answer)
    desk.page.wait_for_timeout(200)
    desk.shows("12")


# ---- pictures ----


def test_a_picture_is_chosen_or_photographed(visit: Visit) -> None:
    inputs = visit.page.locator("input[type=file]")
    assert [each.get_attribute("accept") for each in inputs.all()] == ["image/*"] * 2
    assert [each.get_attribute("capture") for each in inputs.all()] == [None, "environment"]
    for file in inputs.all():
        file.set_input_files(PHOTO)
        visit.shows(*PHOTO_LINES)
        visit.says("20251, 7403986: 12 digits. Clear it to draw.")
        visit.page.keyboard.press("Escape")
        visit.shows()


def test_a_photo_is_shown_with_its_boxes_around_the_ink(visit: Visit) -> None:
    visit.show(PHOTO)
    visit.shows(*PHOTO_LINES)
    box = visit.boxes[3]
    visit.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(visit.page.get_by_role("heading", level=2)).to_contain_text("of this 5")
    assert 0.05 < ink(visit.page, box) < 0.6


PASTE = """
async ([content, name, type, way]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(content)], name, { type }));
  const options = { clipboardData: data, dataTransfer: data, bubbles: true, cancelable: true };
  const Kind = { paste: ClipboardEvent, drop: DragEvent }[way];
  document.body.dispatchEvent(new Kind(way, options));
}
"""


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_picture_is_pasted_or_dropped(visit: Visit, way: str) -> None:
    visit.page.evaluate(PASTE, [list(PHOTO.read_bytes()), "photo.jpg", "image/jpeg", way])
    visit.shows(*PHOTO_LINES)


def test_the_clipboard_of_the_system_is_pasted_with_the_keyboard(
    browser: Chromium, address: str
) -> None:
    copy = """async (content) => {
      const type = "image/png";
      const picture = new Blob([Uint8Array.from(content)], { type });
      await navigator.clipboard.write([new ClipboardItem({ [type]: picture })]);
    }"""
    with browser.visit(address, permissions=["clipboard-read", "clipboard-write"]) as visit:
        visit.page.evaluate(copy, list(png(Image.open(PHOTO).convert("L").resize((600, 400)))))
        visit.page.keyboard.press("Control+v")
        visit.shows(*PHOTO_LINES)
        assert visit.errors == []


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_turned_photo_has_its_boxes_where_its_digits_are_seen(
    desk: Visit, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    Image.open(PHOTO).rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif)
    desk.show(tmp_path / "turned.jpg")
    desk.shows(*PHOTO_LINES)
    assert all(0.03 < ink(desk.page, box) < 0.7 for box in desk.boxes)


# ---- one answer everywhere ----


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_the_api_and_the_command_give_the_same_answer(
    browser: Chromium, address: str, mnist_lit: Command, scheme: str
) -> None:
    with browser.visit(address, color_scheme=scheme) as visit:
        sent = []
        visit.page.on("request", lambda request: sent.append(request))
        visit.write("4096")
        visit.shows("4096")
        drawing = sent[-1].post_data_buffer
        assert np.asarray(Image.open(io.BytesIO(drawing)).convert("L"))[0, 0] == 255
        assert_same(visit, drawing, mnist_lit)
        visit.show(PHOTO)
        visit.shows(*PHOTO_LINES)
        assert sent[-1].post_data_buffer == PHOTO.read_bytes()
        assert_same(visit, PHOTO.read_bytes(), mnist_lit)


def assert_same(visit: Visit, picture: bytes, mnist_lit: Command) -> None:
    api = visit.page.request.post(f"{visit.origin}/v1/read", data=picture).json()
    Path("picture").write_bytes(picture)
    [command] = json.loads(mnist_lit("read", "picture", "--format=json").out)
    assert command == {"file": "picture", **api}
    rows = visit.page.locator("#digits div").all()
    assert "\n".join(row.inner_text().replace("\n", "") for row in rows) == api["text"]
    names = [radio.get_attribute("aria-label") for radio in visit.page.get_by_role("radio").all()]
    digits = [digit for line in api["lines"] for digit in line]
    assert names == [f"{each['digit']}, sure, {100 * each['probability']:.1f}%" for each in digits]


# ---- failures, in words ----


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("blank.png", png(Image.new("L", (300, 200), 250)), "No digits found."),
        ("large.png", bytes(11_000_000), "The picture is larger than 10"),
        ("empty.png", b"", "This is an empty file or a folder."),
        ("notes.txt", b"no picture", "is not in a known format. Give a PNG"),
    ],
)
def test_a_picture_without_an_answer_is_told_in_words(
    browser: Chromium, address: str, tmp_path: Path, name: str, content: Any, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with browser.visit(address) as visit:
        visit.show(tmp_path / name)
        visit.says(words)
        visit.shows()
        unshown = "" if name == "blank.png" else f"Your browser cannot display {name}."
        expect(visit.page.locator("#unshown")).to_have_text(unshown)
        visit.page.keyboard.press("Escape")
        visit.write("7")
        visit.shows("7")
        expect(visit.page.locator("#unshown")).to_be_empty()
        assert_only_network_errors(visit)


def assert_only_network_errors(visit: Visit) -> None:
    """Of which the browser itself tells the console."""
    assert [error for error in visit.errors if "Failed to load resource" not in error] == []


@pytest.mark.parametrize("device", DEVICES)
def test_offline_the_page_says_so_and_reads_when_the_network_is_back(
    browser: Chromium, address: str, device: Any
) -> None:
    with browser.visit(address, device) as visit:
        visit.write("7")
        visit.shows("7")
        visit.page.context.set_offline(True)
        visit.write("2", left=150)
        visit.says("The server does not respond. Retrying automatically.")
        visit.shows()
        visit.page.context.set_offline(False)
        visit.shows("72")
        assert_only_network_errors(visit)


def test_a_server_that_is_gone_is_asked_again_until_it_is_back(browser: Chromium) -> None:
    with ExitStack() as stack:
        with serving() as address:
            visit = stack.enter_context(browser.visit(address))
            visit.write("7")
            visit.shows("7")
        visit.write("2", left=150)
        visit.says("The server does not respond. Retrying automatically.")
        with serving(urlsplit(address).port or 0):
            visit.shows("72")
        assert_only_network_errors(visit)


def test_a_busy_server_is_asked_again_when_it_said(browser: Chromium, address: str) -> None:
    with browser.visit(address) as visit:
        busy = {"status": 503, "headers": {"Retry-After": "2"}, "json": {"detail": "busy"}}
        visit.page.route("**/v1/read*", lambda route: route.fulfill(**busy), times=1)
        visit.page.evaluate(
            "() => {"
            "  window.waits = [];"
            "  const wait = setTimeout;"
            "  window.setTimeout = (call, ms) => (waits.push(ms), wait(call, ms));"
            "}"
        )
        visit.write("7")
        visit.says("The server is busy. Retrying automatically.")
        visit.shows("7")
        assert 2000 in visit.page.evaluate("waits")  # milliseconds
        assert_only_network_errors(visit)


def test_what_is_refused_is_not_sent_again(browser: Chromium, address: str) -> None:
    html = {"content_type": "text/html", "body": "<h1>No</h1>"}
    late = {"status": 503, "json": {"detail": "It took too long."}}
    with browser.visit(address) as visit:
        visit.page.evaluate(
            "() => {"
            "  const wait = setTimeout;"
            "  window.setTimeout = (call, ms) => wait(call, ms / 10);"
            "}"
        )
        for answer, words in (
            ({"status": 413, **html}, "The picture is too large for the server."),
            ({"status": 403, **html}, "The picture was refused (status 403)."),
            (late, "It took too long."),
        ):
            asked: list[Route] = []

            def refuse(
                route: Route,
                _: Request,
                answer: dict[str, Any] = answer,
                asked: list[Route] = asked,
            ) -> None:
                asked.append(route)
                route.fulfill(**answer)

            visit.page.route("**/v1/read*", refuse)
            visit.write("1")
            visit.says(words)
            visit.page.wait_for_timeout(150)  # more than a tenth of a second, its shortest wait
            assert len(asked) == 1
            visit.page.keyboard.press("Escape")
        assert_only_network_errors(visit)


def test_a_folder_is_no_picture(desk: Visit) -> None:
    script = """() => {
      const folder = new File([], "folder");
      folder.arrayBuffer = () => Promise.reject(new DOMException("", "NotFoundError"));
      const input = document.querySelector("input[type=file]");
      Object.defineProperty(input, "files", { value: [folder] });
      input.dispatchEvent(new Event("change", { bubbles: true }));
    }"""
    desk.page.evaluate(script)
    desk.says("This is an empty file or a folder.")


# ---- for everybody ----


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", DEVICES)
def test_axe_finds_nothing_to_complain_of(
    browser: Chromium, address: str, device: Any, scheme: str, tmp_path: Path
) -> None:
    blank = tmp_path / "blank.png"
    Image.new("L", (9, 9)).save(blank)
    with browser.visit(address, device, color_scheme=scheme) as visit:

        def judge() -> None:
            results = Axe().run(visit.page)
            assert results.violations_count == 0, results.generate_report()

        judge()
        visit.write("1", size=150)
        expect(visit.page.get_by_role("radio")).to_have_count(1)
        expect(visit.page.get_by_role("radio", name="doubtful")).to_be_checked()
        judge()
        visit.show(PHOTO)
        visit.shows(*PHOTO_LINES)
        judge()
        visit.show(blank)
        visit.says("No digits found.")
        judge()


def test_all_is_on_one_screen(visit: Visit) -> None:
    for _ in range(2):
        script = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        size = visit.page.viewport_size
        assert size
        assert visit.page.evaluate(script) == [size["width"], size["height"]]
        visit.show(PHOTO)
        visit.shows(*PHOTO_LINES)


SIZES = [(640, 360), (667, 375), (844, 390), (1024, 768), (960, 700), (320, 568), (280, 653)]


def test_on_any_screen_the_sheet_and_the_answer_have_their_room(
    browser: Chromium, address: str
) -> None:
    with browser.visit(address, "phone") as visit:
        for width, height in SIZES:
            visit.page.set_viewport_size({"width": width, "height": height})
            sheet, answer = visit.place("#stage"), visit.place(".result")
            coarse = visit.page.locator(".tools .coarse").all()
            undo = visit.page.get_by_role("button", name="Undo")
            boxes = [each.bounding_box() for each in (*coarse, undo)]
            buttons = [box for box in boxes if box]
            assert len(buttons) == len(boxes)
            assert visit.page.evaluate("document.documentElement.scrollWidth") == width
            assert (sheet["width"], sheet["height"], visit.place("#bars div")["width"]) >= (
                240,
                160,
                40,
            )
            right = sheet["x"] + sheet["width"] + 1
            assert all(button["x"] + button["width"] <= right for button in buttons)
            assert answer["x"] > right or answer["y"] > buttons[0]["y"] + buttons[0]["height"]


def test_only_the_sheet_keeps_fingers_from_scrolling(visit: Visit) -> None:
    def keeping() -> list[str]:
        return [id for id, style in styles(visit.page, "touchAction") if style != "auto"]

    assert keeping() == ["pad"]
    visit.show(PHOTO)
    visit.shows(*PHOTO_LINES)
    assert keeping() == []


def styles(page: Page, name: str) -> list[tuple[str, str]]:
    """A style of every element, after its id."""
    script = "(all, name) => all.map((each) => [each.id, getComputedStyle(each)[name]])"
    found: list[tuple[str, str]] = page.locator("*").evaluate_all(script, name)
    return found


def test_nothing_moves_for_those_who_do_not_want_it(browser: Chromium, address: str) -> None:
    for motion, moves in (("no-preference", True), ("reduce", False)):
        with browser.visit(address, reduced_motion=motion) as visit:
            assert (
                any(time != "0s" for _, time in styles(visit.page, "transitionDuration")) == moves
            )


def test_the_script_is_short_and_names_no_other_host() -> None:
    lines = [line for file in STATIC.glob("*.js") for line in file.read_text().splitlines()]
    assert len(lines) <= 440
    for file in STATIC.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|url\(|//\w+\.", text), file


# ---- corrections ----


def correct(visit: Visit, number: int, name: str) -> None:
    """Select a digit, and choose a button."""
    visit.page.get_by_role("radio").nth(number).check(force=True)
    visit.page.get_by_role("button", name=name).click()


def test_a_digit_can_be_corrected_or_taken_away(visit: Visit) -> None:
    visit.write("2753")  # ends in a digit of one stroke, and one answer
    visit.shows("2753")
    expect(visit.page.locator("#kept")).to_be_hidden()
    correct(visit, 1, "It is a 1")
    visit.shows("2153")
    visit.says("2153: 4 digits.")
    expect(visit.page.get_by_role("heading", level=2)).to_contain_text("of this 1")
    expect(visit.page.locator("#kept")).to_have_text(
        "One correction, kept until you leave this page."
    )
    correct(visit, 2, "Not a digit")
    visit.shows("213")
    visit.says("213: 3 digits.")
    visit.page.get_by_role("radio").nth(0).check(force=True)
    visit.page.keyboard.press("7")
    visit.shows("713")
    expect(visit.page.locator("#kept")).to_contain_text("2 corrections")
    visit.page.keyboard.press("Backspace")  # takes the correction back, too
    visit.shows("13")
    expect(visit.page.locator("#kept")).to_contain_text("One correction")
    for _ in range(2):
        visit.page.get_by_role("button", name="Not a digit").click()
    visit.says("No digits.")
    expect(visit.page.get_by_role("button", name="Not a digit")).to_be_hidden()


def test_corrections_are_downloaded_as_collect_takes_them(
    desk: Visit, mnist_lit: Command, tmp_path: Path
) -> None:
    desk.write("273")
    desk.shows("273")
    correct(desk, 1, "It is a 1")
    correct(desk, 1, "It is a 9")  # the last one counts
    correct(desk, 0, "It is a 2")  # confirmed
    correct(desk, 2, "It is a 5")
    desk.page.get_by_role("button", name="Not a digit").click()  # takes it back
    expect(desk.page.locator("#kept")).to_contain_text("2 corrections")
    with desk.page.expect_download() as download:
        desk.page.get_by_role("button", name="Download as ZIP").click()
    assert download.value.suggested_filename == "corrections.zip"
    download.value.save_as(tmp_path / "corrections.zip")
    outcome = mnist_lit("collect", "corrections.zip", "--into=hands/page")
    assert (outcome.status, outcome.err) == (0, "")
    assert sorted(path.parent.name for path in Path("hands/page").glob("*/*.png")) == ["2", "9"]
    [origin] = Path("hands/page/9").glob("*.json")
    saved = json.loads(origin.read_text())
    assert (saved["label"], saved["read_as"], saved["source"]) == (9, 7, "page")


def test_a_server_that_collects_says_so_and_saves_corrections(
    browser: Chromium, tmp_path: Path
) -> None:
    with (
        serving(0, f"--collect={tmp_path / 'hands'}") as address,
        browser.visit(address, "phone") as visit,
    ):
        expect(
            visit.page.get_by_text("This server saves the digits that you correct.")
        ).to_be_visible()
        visit.write("27")
        visit.shows("27")
        correct(visit, 1, "It is a 1")
        expect(visit.page.locator("#kept")).to_have_text("One correction, saved on the server.")
        expect(visit.page.get_by_role("button", name="Download as ZIP")).to_be_hidden()
        visit.page.get_by_role("button", name="Not a digit").click()
        expect(visit.page.locator("#kept")).to_be_hidden()
        assert not list((tmp_path / "hands").glob("*/*.png"))
        correct(visit, 0, "It is a 7")
        expect(visit.page.locator("#kept")).to_have_text("One correction, saved on the server.")
        assert visit.errors == []
    [path] = (tmp_path / "hands").glob("*/*.png")
    assert path.parent.name == "7"


def test_a_correction_that_could_not_be_saved_is_sent_again(
    browser: Chromium, tmp_path: Path
) -> None:
    with (
        serving(0, f"--collect={tmp_path / 'hands'}") as address,
        browser.visit(address) as visit,
    ):
        visit.write("27")
        visit.shows("27")
        visit.page.route("**/v1/corrections", lambda route: route.abort())
        correct(visit, 0, "It is a 1")
        kept, download = visit.page.locator("#kept"), visit.page.get_by_role("button", name="ZIP")
        expect(kept).to_have_text("One correction not saved. The server does not respond.")
        expect(download).to_be_visible()
        visit.page.unroute("**/v1/corrections")
        correct(visit, 1, "It is a 9")
        expect(kept).to_have_text("2 corrections, saved on the server.")
        expect(download).to_be_hidden()
    folder = tmp_path / "hands"
    assert sorted(path.parent.name for path in folder.glob("*/*.png")) == ["1", "9"]


# ---- the picture of the README ----


def draw_readme_picture(path: Path) -> None:
    """The page with a number on a desktop, and with the photo on a phone beside it."""
    shots = []
    with serving() as address, browsing() as browser:
        for device, scheme in (("desktop", "light"), ("phone", "dark")):
            with browser.visit(address, device, color_scheme=scheme) as visit:
                if device == "desktop":
                    visit.write("2025", left=50, top=150, size=180)
                    visit.shows("2025")
                else:
                    visit.show(PHOTO)
                    visit.shows(*PHOTO_LINES)
                visit.page.wait_for_timeout(500)
                shot = Image.open(io.BytesIO(visit.page.screenshot())).convert("RGB")
                shots.append(shot.resize((shot.width * 800 // shot.height, 800)))
    desktop, phone = shots
    sheet = Image.new("RGB", (desktop.width + phone.width + 24, 800), "white")
    sheet.paste(desktop, (0, 0))
    sheet.paste(phone, (desktop.width + 24, 0))
    sheet.quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    draw_readme_picture(Path(sys.argv[1]))
