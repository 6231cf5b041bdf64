"""The application, called in this process."""

import asyncio
import io
import itertools
import json
import logging
import os
import re
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient

from mnist_lit.own_digits.storage import content_hash, from_glyph
from mnist_lit.reading.reader import Reader, Reading
from mnist_lit.server.app import create_app
from mnist_lit.server.child import respond
from mnist_lit.server.pool import ReaderProcess
from mnist_lit.server.problems import ProblemError
from mnist_lit.server.protection import HEADERS
from mnist_lit.server.settings import Settings
from mnist_lit.server.uploads import Uploads
from tests.conftest import Command
from tests.support.hostile import promise
from tests.support.server import BLANK, PAGE, PHOTO, refused, uploads
from tests.support.waiting import wait_until

HERE = "http://localhost"


def served(**limits: Any) -> TestClient:
    return TestClient(create_app(Settings(**limits)), HERE)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with served() as client:
        yield client


# ---- reading ----


def test_the_answer_is_that_of_read(client: TestClient, mnist_lit: Command) -> None:
    contents = {"photo.jpg": PHOTO.read_bytes(), "page.png": PAGE, "blank.png": BLANK}
    for name, content in contents.items():
        Path(name).write_bytes(content)
    documents = json.loads(mnist_lit("read", "--format=json", *contents).out)
    for document in documents:
        content = contents[document.pop("file")]
        raw = client.post("/v1/read", content=content)
        form = client.post("/v1/read", files={"picture": content})
        assert raw.status_code == form.status_code == 200
        assert raw.headers["content-type"] == form.headers["content-type"] == "application/json"
        assert raw.json() == form.json() == document
    assert [document["text"] for document in documents] == ["20251\n7403986", "31\n4159", ""]


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/jpeg; q=1", "application/octet-stream"])
def test_a_raw_picture_may_have_any_type_of_a_picture(client: TestClient, kind: str) -> None:
    response = client.post("/v1/read", content=PAGE, headers={"Content-Type": kind})
    assert response.json()["text"] == "31\n4159"


def test_what_the_network_saw_comes_if_asked_for(client: TestClient) -> None:
    plain, more = (client.post(f"/v1/read?glyphs={asked}", content=PAGE) for asked in (False, True))
    assert all("glyph" not in digit for line in plain.json()["lines"] for digit in line)
    found = [digit for line in more.json()["lines"] for digit in line]
    for digit, expected in zip(found, Reader().read(PAGE).digits, strict=True):
        assert np.shape(digit["glyph"]) == (28, 28)
        np.testing.assert_allclose(digit["glyph"], expected.glyph, atol=0.0025)


def test_the_model_tells_its_origin(client: TestClient) -> None:
    noted = client.get("/v1/model").json()
    assert noted.keys() == Reader().metadata.keys()
    assert (noted["labels"], noted["seed"]) == (list(range(10)), 0)
    assert noted["threshold"] == Reader().threshold
    assert noted["network"] == noted["recipe"]["model"]["network"]["class_path"]


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/v1/model"])
def test_a_head_may_be_asked_for_alone(client: TestClient, path: str) -> None:
    assert client.head(path).status_code == 200


# ---- refusals ----


@pytest.mark.parametrize(
    ("status", "detail", "request_"),
    [
        (422, "The request has no picture, or an empty one. Send", {}),
        (422, "The request has no picture", {"files": {"picture": b""}}),
        (
            422,
            "The picture is text, not a file.+=@FILE",
            {"files": {"picture": (None, b"photo.jpg")}},
        ),
        (415, "The Content-Type is not that of a picture. Send image/png", {"data": {"a": "b"}}),
        (415, "The picture is not in a known format. Give", {"content": b"a letter"}),
        (415, "The picture is not in a known format. Give", {"files": {"picture": b"a"}}),
        (422, "The picture cannot be read: .+ save it again", {"content": PAGE[:150]}),
        (413, "has more than 40 megapixels. Make it", {"content": promise(50_000, 50_000)}),
        (400, "more than one part. Send a single file", {"files": [("picture", PAGE)] * 2}),
        (400, "more than one", {"files": {"picture": PAGE}, "data": {"name": "value"}}),
        (422, "no file named picture. Send only that", {"files": {"image": PAGE}}),
        (422, "glyphs: must be true or false", {"content": PAGE, "params": {"glyphs": "maybe"}}),
    ],
)
def test_what_cannot_be_read_is_told_with_what_to_do(
    client: TestClient, status: int, detail: str, request_: dict[str, Any]
) -> None:
    assert re.search(detail, refused(client.post("/v1/read", **request_), status))


@pytest.mark.parametrize(
    "content",
    [
        b"--x\r\n",
        b"--x\r\nContent-Disposition: form-data\r\n\r\n7\r\n--x--",
        b"--x--\r\n",
        b"\0" * 99,
    ],
)
def test_a_form_that_is_none_is_refused(client: TestClient, content: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = client.post("/v1/read", content=content, headers=headers)
    assert refused(response, response.status_code)
    assert response.status_code in (400, 422)
    headers = {"Content-Type": "multipart/form-data"}
    assert "damaged" in refused(client.post("/v1/read", content=content, headers=headers), 400)


def ways_to_send(content: bytes) -> list[dict[str, Any]]:
    """The arguments for a raw picture, one in a form, and one without a Content-Length."""
    return [{"content": content}, {"files": {"picture": content}}, {"content": iter([content])}]


def test_a_picture_may_have_so_many_bytes_and_no_more() -> None:
    with served(max_bytes=10_000) as client:
        for way in ways_to_send(b"." * 30_000):
            assert "larger than 0.01 MB" in refused(client.post("/v1/read", **way), 413)
    with served(max_bytes=len(PAGE)) as client:
        for way in ways_to_send(PAGE):
            assert client.post("/v1/read", **way).status_code == 200
        for way in ways_to_send(PAGE + b"."):
            assert "larger than 0.0" in refused(client.post("/v1/read", **way), 413)
        form = client.post("/v1/read", files={"picture": PAGE, "more": b"." * 20_000})
        assert "Send a smaller one." in refused(form, 413)


def test_a_picture_may_have_so_many_pixels_and_no_more() -> None:
    height, width = Image.open(io.BytesIO(PAGE)).size
    with served(max_pixels=height * width) as client:
        assert client.post("/v1/read", content=PAGE).status_code == 200
    with served(max_pixels=height * width - 1) as client:
        assert "megapixels" in refused(client.post("/v1/read", content=PAGE), 413)


def test_pictures_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", lambda _: 1 / 0)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda *_, **__: 1 / 0)
    buffer = io.BytesIO()
    Image.open(io.BytesIO(PAGE)).resize((1600, 1400)).save(buffer, "BMP")
    with served() as client:
        response = client.post("/v1/read", files={"picture": buffer.getvalue()})
    assert response.json()["text"] == "31\n4159"


Message = dict[str, Any]


def ask(
    app: Any,
    messages: Iterator[Message],
    path: str = "/v1/read",
    method: str = "POST",
    **headers: str,
) -> tuple[int, dict[str, str], int]:
    """Status and headers of an answer, and how many messages were taken; then nothing comes."""
    taken, answer = 0, Message()

    async def receive() -> Message | None:
        nonlocal taken
        message = next(messages, None)
        if message is None:
            await asyncio.sleep(60)
        taken += 1
        return message

    async def send(message: Message) -> None:
        answer.update(message)

    names = {"host": "localhost", **headers}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in names.items()],
    }
    asyncio.run(app(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in answer["headers"]}
    return answer["status"], found, taken


def part(body: bytes) -> Message:
    return {"type": "http.request", "body": body, "more_body": True}


def test_a_body_without_end_is_read_no_further_than_it_may_go() -> None:
    app = create_app(Settings(max_bytes=1_000_000))
    chunked = {"transfer-encoding": "chunked"}
    status, headers, taken = ask(app, iter(lambda: part(b"." * 65536), b""), **chunked)
    assert (status, headers["connection"], taken) == (413, "close", 16)
    form = {"content-type": "multipart/form-data; boundary=x"}
    head = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'
    parts = iter([part(head), *[part(b"." * 65536)] * 100])
    assert ask(app, parts, **chunked, **form)[::2] == (413, 17)
    assert ask(app, iter([]), **{"content-length": "1000001"})[::2] == (413, 0)


def test_a_body_that_does_not_come_is_not_awaited() -> None:
    app = create_app(Settings(max_seconds=0.2))
    status, headers, _ = ask(app, iter([part(PAGE[:100])]))
    assert (status, headers["connection"]) == (408, "close")


@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/read", "image/png"), ("/v1/corrections", "application/json")]
)
def test_a_client_that_goes_away_is_no_failure(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, path: str, kind: str
) -> None:
    caplog.set_level(logging.INFO)
    messages = iter([part(PAGE[:100]), {"type": "http.disconnect"}])
    app = create_app(Settings(collect=tmp_path))
    assert ask(app, messages, path, **{"content-type": kind})[0] == 400
    assert [each.levelname for each in caplog.records if "mnist_lit" in each.name] == ["INFO"]


# ---- time and queue ----


class Slow:
    """Keeps the processes busy until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on, self.begun = threading.Event(), threading.Semaphore(0)
        read = ReaderProcess.read

        async def slow_read(*args: Any) -> bytes:
            self.begun.release()
            while not self.go_on.is_set():
                await asyncio.sleep(0.01)
            return await read(*args)

        monkeypatch.setattr(ReaderProcess, "read", slow_read)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    slow = Slow(monkeypatch)
    yield slow
    slow.go_on.set()


def test_a_full_queue_is_told_at_once_and_the_others_are_answered(slow: Slow) -> None:
    app = create_app(Settings(processes=1, max_waiting=1))

    async def load() -> list[httpx2.Response]:
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url=HERE) as client,
        ):
            assert (await client.get("/readyz")).status_code == 200
            taken = [asyncio.create_task(client.post("/v1/read", content=PAGE)) for _ in range(2)]
            await asyncio.to_thread(slow.begun.acquire)
            over, ready, alive = [
                await call
                for call in (
                    client.post("/v1/read", content=PAGE),
                    client.get("/readyz"),
                    client.get("/healthz"),
                )
            ]
            slow.go_on.set()
            return [over, ready, alive, *await asyncio.gather(*taken)]

    over, ready, alive, *taken = asyncio.run(load())
    for response in (over, ready):
        assert "The server is busy." in refused(response, 503)
        assert int(response.headers["retry-after"]) > 0
    assert alive.status_code == 200
    assert [response.json()["text"] for response in taken] == ["31\n4159"] * 2


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While it is set, the process that is given a picture never answers."""
    hangs, read = threading.Event(), ReaderProcess.read

    async def read_or_hang(self: ReaderProcess, *args: Any) -> bytes:
        if hangs.is_set():
            os.kill((await self.start()).pid, signal.SIGSTOP)
        return await read(self, *args)

    monkeypatch.setattr(ReaderProcess, "read", read_or_hang)
    hangs.set()
    return hangs


def test_a_picture_that_takes_too_long_is_given_up_and_the_next_is_read(
    hanging: threading.Event,
) -> None:
    with served(processes=1, max_waiting=0, max_seconds=2) as client:
        late = client.post("/v1/read", content=PAGE)
        assert "was not read within 2 seconds. Send a smaller one." in refused(late, 503)
        assert "retry-after" not in late.headers
        hanging.clear()
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/v1/read", content=PAGE).json()["text"] == "31\n4159"


def test_a_server_whose_processes_all_hang_is_not_ready(
    hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_lit.server.pool.STUCK_SECONDS", 0.5)
    with (
        served(processes=2, max_seconds=4) as client,
        ThreadPoolExecutor(2) as two,
    ):
        assert client.get("/readyz").status_code == 200
        late = [two.submit(client.post, "/v1/read", content=PAGE) for _ in range(2)]
        wait_until(lambda: client.get("/readyz").status_code == 503)
        assert not all(each.done() for each in late)
        assert {each.result().status_code for each in late} == {503}
        hanging.clear()
        wait_until(lambda: client.get("/readyz").status_code == 200)


def test_a_process_that_dies_at_a_picture_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = ReaderProcess.start

    async def start_and_die(self: ReaderProcess) -> asyncio.subprocess.Process:
        process = await start(self)
        os.kill(process.pid, signal.SIGKILL)
        return process

    with served() as client:
        monkeypatch.setattr(ReaderProcess, "start", start_and_die)
        assert "See its log." in refused(client.post("/v1/read", content=PAGE), 500)
        assert re.search("IncompleteReadError|Connection", caplog.text)
        monkeypatch.undo()
        assert client.post("/v1/read", content=PAGE).json()["text"] == "31\n4159"


class Failing(Reader):
    def read(self, *_: object) -> Reading:
        raise ZeroDivisionError("".join(["holi", "day"]))


def test_a_failure_in_a_child_process_is_told_without_its_message() -> None:
    status, place = respond(Failing(), PAGE, 1, False)
    assert status == 500
    assert place.startswith(b"ZeroDivisionError at")
    assert b"in respond" in place
    assert b"holiday" not in place


def test_a_failure_in_a_child_process_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    child = (
        "import sys; sys.stdin.buffer.read(9); sys.stdout.buffer.write(b'\\1\\xf4\\0\\0\\0\\3abc')"
    )
    start = asyncio.create_subprocess_exec

    def start_other(python: str, *_: str, **options: Any) -> Any:
        return start(python, "-c", child, **options)

    monkeypatch.setattr("asyncio.create_subprocess_exec", start_other)
    with served() as client:
        assert "See its log." in refused(client.post("/v1/read", content=PAGE), 500)
    assert "in the child process: abc" in caplog.text


def test_slow_uploads_keep_nobody_out() -> None:
    app = create_app(Settings(processes=1, max_waiting=1, max_seconds=30))

    async def load() -> httpx2.Response:
        async def trickle() -> AsyncIterator[bytes]:
            yield PAGE[:1]
            await asyncio.sleep(60)

        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url=HERE) as client,
        ):
            slow = [asyncio.create_task(client.post("/v1/read", content=trickle())) for _ in "1234"]
            await asyncio.sleep(0)
            response = await client.post("/v1/read", content=PAGE)
            for each in slow:
                each.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            return response

    assert asyncio.run(load()).json()["text"] == "31\n4159"


def test_pictures_that_arrive_together_may_take_so_much_memory_and_no_more() -> None:
    uploads = Uploads(Settings(processes=1, max_waiting=0, max_bytes=90_000))
    with uploads.reservation() as one, uploads.reservation() as two:
        one(60_000)
        two(40_000)
        with pytest.raises(ProblemError, match="The server is busy"):
            two(1)
    with uploads.reservation() as three:
        three(100_000)


def test_a_picture_that_waited_in_vain_is_to_be_sent_again(slow: Slow) -> None:
    with (
        served(processes=1, max_waiting=1, max_seconds=0.3) as client,
        ThreadPoolExecutor() as two,
    ):
        late = list(two.map(lambda _: client.post("/v1/read", content=PAGE), range(2)))
        assert sorted("retry-after" in response.headers for response in late) == [False, True]
        assert any("Try again." in refused(response, 503) for response in late)
        slow.go_on.set()


# ---- protection ----


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/docs", 200), ("/v1/model", 200), ("/none", 404), ("/static/none", 404)],
)
def test_every_answer_is_protected(client: TestClient, path: str, status: int) -> None:
    response = client.get(path)
    assert response.status_code == status
    assert response.headers.items() >= {k.lower(): v for k, v in HEADERS.items()}.items()
    policy = response.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "digits.example.org"]
)
def test_own_names_are_answered(host: str) -> None:
    with served(hosts=(*Settings.hosts, "digits.example.org")) as client:
        assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["", "example.org", "localhost.example.org", "a@localhost", "localhost/", "::1", "127.0.0.2"],
)
def test_other_names_are_refused(client: TestClient, host: str) -> None:
    response = client.get("/healthz", headers={"Host": host})
    assert "--allow-host" in refused(response, 400)
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("folder", ["/static", "/docs"])
@pytest.mark.parametrize(
    "way", ["/../app.py", "/x/../../app.py", "/..\\app.py", "//etc/passwd", "/\0", "/.", "/" * 999]
)
def test_nothing_beside_the_pages_can_be_reached(folder: str, way: str) -> None:
    assert ask(create_app(Settings()), iter([]), folder + way, method="GET")[0] == 404


def test_files_are_asked_for_again_only_if_they_have_changed(client: TestClient) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/docs", "text/html"),
        ("/docs/start.js", "text/javascript"),
        ("/docs/swagger-ui.css", "text/css"),
    ):
        response = client.get(path)
        assert response.headers["content-type"].startswith(kind)
        assert response.headers["cache-control"] == "no-cache"
        again = client.get(path, headers={"If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client.get("/v1/model").headers["cache-control"] == "no-store"


# ---- what is noted ----


def test_the_log_has_size_time_and_outcome_and_nothing_of_the_picture(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    form = {"picture": ("holiday.png", PAGE, "image/png")}
    client.post("/v1/read?glyphs=true&secret=holiday", files=form)
    client.post("/v1/read", files={"picture": ("holiday.png", b"holiday")})
    client.get("/a%0ab")
    lines = [each.getMessage() for each in caplog.records if "mnist_lit" in each.name]
    assert re.fullmatch(r"POST /v1/read 200 \d{4,6} bytes \d+ ms", lines[0])
    assert re.fullmatch(r"POST /v1/read 415 \d{3} bytes \d+ ms", lines[1])
    assert re.fullmatch(r"GET /a%0Ab 404 0 bytes \d+ ms", lines[2])
    assert len(lines) == 3
    assert "holiday" not in "".join(lines)


def test_a_failure_is_a_problem_and_its_message_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError("".join(["holi", "day"]))

    monkeypatch.setattr(ReaderProcess, "read", fail)
    with served() as client:
        response = client.post("/v1/read", content=PAGE)
        assert "See its log." in refused(response, 500)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert 'status="500"' in client.get("/metrics").text
    assert "ZeroDivisionError" in caplog.text
    assert "in fail" in caplog.text
    assert "holiday" not in caplog.text


def test_metrics_count_requests_in_few_series() -> None:
    with served() as client:
        client.post("/v1/read", content=PAGE)
        client.post("/v1/read", content=b"?")
        for number in range(3):
            client.request(f"ODD{number}", f"/{number}")
        response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = response.text.splitlines()
    for line in (
        'http_requests_total{method="POST",path="/v1/read",status="200"} 1.0',
        'http_requests_total{method="POST",path="/v1/read",status="415"} 1.0',
        'http_requests_total{method="other",path="other",status="404"} 3.0',
        'http_request_duration_seconds_count{path="/v1/read"} 2.0',
        "http_requests_open 1.0",
    ):
        assert line in lines


# ---- documentation ----


def test_the_documentation_has_examples_and_asks_no_other_host(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    read = document["paths"]["/v1/read"]["post"]
    assert read["responses"].keys() == {*map(str, (200, 400, 408, 413, 415, 422, 503))}
    assert document["components"]["schemas"]["PictureRead"]["example"]["text"] == "7"
    for status, response in read["responses"].items():
        kind = "application/json" if status == "200" else "application/problem+json"
        assert response["content"].keys() == {kind}
        if status != "200":
            assert response["content"][kind]["example"]["status"] == int(status)
    page = client.get("/docs").text
    loaded = re.findall(r'(?:src|href)="(.+?)"', page)
    assert len(loaded) > 3
    assert all(client.get(path).status_code == 200 for path in loaded)
    for text in (page, client.get("/docs/start.js").text):
        assert "//" not in re.sub(r"(?m)\s// .*$|^// .*$", "", text)


def test_every_answer_is_as_the_documentation_says() -> None:
    pictures = st.binary() | st.sampled_from([PAGE, PAGE[:200], BLANK])
    schemathesis.openapi.format("binary", pictures)
    app = create_app(Settings(hosts=("testserver",)))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations: list[Any] = list(schema.get_all_operations())
    right = [found.ok().as_strategy() for found in operations]
    wrong = schema["/v1/read"]["post"].as_strategy(generation_mode=GenerationMode.NEGATIVE)
    for cases in (*right, wrong):

        @settings(max_examples=20, deadline=None, derandomize=True)
        @given(cases)
        def check(case: Any) -> None:
            # What is right by the document may still be no picture.
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        check()


# ---- strange pictures ----


def test_damaged_pictures_are_read_or_refused(client: TestClient) -> None:
    responses = uploads(client, 100)
    assert {response.status_code for response in responses} <= {200, 413, 415, 422}
    assert all(refused(each, each.status_code) for each in responses if each.status_code > 200)
    assert client.post("/v1/read", content=PAGE).json()["text"] == "31\n4159"


# ---- corrections ----

GLYPH = [[0.0] * 12 + [0.5, 1.0, 0.5] + [0.0] * 13] * 28
CORRECTION = {"digit": 1, "read_as": 7, "glyph": GLYPH}


def test_corrections_are_saved_only_if_the_server_collects_them(
    client: TestClient, tmp_path: Path
) -> None:
    assert client.get("/v1/corrections").json() == {"saved": False}
    refused(client.post("/v1/corrections", json=CORRECTION), 405)
    with served(collect=tmp_path) as collecting:
        assert collecting.get("/v1/corrections").json() == {"saved": True}
        response = collecting.post("/v1/corrections", json=CORRECTION)
        assert (response.status_code, response.json()) == (201, {"digit": 1})
    [path] = tmp_path.rglob("*.png")
    with Image.open(path) as image:
        assert np.asarray(image)[5, 11:16].tolist() == [0, 128, 255, 128, 0]
    origin = json.loads(path.with_suffix(".json").read_text())
    assert (path.parent.name, origin["label"], origin["read_as"]) == ("1", 1, 7)


def test_of_two_corrections_of_a_digit_the_last_counts(tmp_path: Path) -> None:
    with served(collect=tmp_path) as client:
        for digit in (1, 4, 4):
            client.post("/v1/corrections", json=CORRECTION | {"digit": digit})
        assert labels(tmp_path) == ["4", "4"]
        client.post("/v1/corrections", json=CORRECTION | {"digit": None})
        assert labels(tmp_path) == []


def test_of_simultaneous_corrections_of_a_digit_one_is_left(tmp_path: Path) -> None:
    with served(collect=tmp_path) as client, ThreadPoolExecutor(8) as pool:
        bodies = [CORRECTION | {"digit": digit} for digit in range(8)]
        for _ in range(5):
            list(pool.map(lambda body: client.post("/v1/corrections", json=body), bodies))
            assert len(labels(tmp_path)) == 2  # an image and its origin


def test_a_correction_is_the_same_image_as_an_own_digit_of_collect(tmp_path: Path) -> None:
    reading = Reader().read(PAGE)
    names = {content_hash(from_glyph(digit.glyph)) for digit in reading.digits}
    with served(collect=tmp_path) as client:
        read = client.post("/v1/read?glyphs=true", content=PAGE).json()
        for digit in itertools.chain.from_iterable(read["lines"]):
            correction = {"digit": 1, "read_as": digit["digit"], "glyph": digit["glyph"]}
            assert client.post("/v1/corrections", json=correction).status_code == 201
    assert {path.stem for path in tmp_path.glob("*/*.png")} == names


def labels(folder: Path) -> list[str]:
    return [path.parent.name for path in sorted(folder.glob("*/*.*"))]


@pytest.mark.parametrize(
    ("status", "correction"),
    [
        (422, {"digit": 10}),
        (422, {"digit": "../1"}),
        (422, {"glyph": [[0.0] * 28] * 27}),
        (422, {"glyph": [[2.0] * 28] * 28}),
        (422, {"glyph": None}),
        (422, {"folder": "/tmp"}),
        (413, {"glyph": [[0.0] * 100] * 100}),
    ],
)
def test_a_correction_that_is_none_is_refused(
    tmp_path: Path, status: int, correction: dict[str, Any]
) -> None:
    with served(collect=tmp_path) as client:
        refused(client.post("/v1/corrections", json=CORRECTION | correction), status)
        refused(client.post("/v1/corrections", content=b"{", headers=JSON), 422)
    assert not list(tmp_path.iterdir())


JSON = {"Content-Type": "application/json"}


def test_a_page_of_another_site_cannot_save_corrections(tmp_path: Path) -> None:
    body = json.dumps(CORRECTION)
    with served(collect=tmp_path) as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            response = client.post("/v1/corrections", content=body, headers={"Content-Type": kind})
            refused(response, 415)
        asked = client.options("/v1/corrections", headers={"Origin": "http://evil.example"})
        assert "access-control-allow-origin" not in asked.headers
    assert not list(tmp_path.iterdir())


def test_a_full_disk_or_folder_is_said_without_naming_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with served(collect=tmp_path / "file") as client:
        detail = refused(client.post("/v1/corrections", json=CORRECTION), 507)
        assert detail == "The correction cannot be saved on the server. Tell whoever runs it."
    monkeypatch.setattr("mnist_lit.server.corrections.MAX_SAVED", 1)
    with served(collect=tmp_path / "hands") as client:
        assert client.post("/v1/corrections", json=CORRECTION).status_code == 201
        other = CORRECTION | {"glyph": [*GLYPH[1:], [1.0] * 28]}
        assert "saves no more" in refused(client.post("/v1/corrections", json=other), 507)
        assert client.post("/v1/corrections", json=CORRECTION | {"digit": 2}).status_code == 201


def test_what_is_not_a_correction_never_ends_in_an_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with served(collect=tmp_path) as client:
        body = json.dumps(CORRECTION).encode()
        for _ in range(100):
            damaged = bytearray(body)
            for place in rng.integers(0, len(body), 3):
                damaged[place] = rng.integers(256)
            response = client.post("/v1/corrections", content=bytes(damaged), headers=JSON)
            assert response.status_code in (201, 422)
