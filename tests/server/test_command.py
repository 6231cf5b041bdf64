"""The real command serve in processes of its own."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.conftest import Command, start
from tests.support.server import BLANK, PAGE, PHOTO, refused, uploads
from tests.support.waiting import wait_until


class Server:
    """A running ``serve`` at a free port; what it printed is there once it has ended."""

    def __init__(self, cwd: Path, *options: str) -> None:
        self.process = start("serve", "--port=0", *options, cwd=cwd)
        assert self.process.stdout
        line = self.process.stdout.readline()
        found = re.fullmatch(
            r"Serving at (http://127\.0\.0\.1:\d+)  \(press Ctrl-C to stop\)\n", line
        )
        assert found, (line, self.process.communicate(timeout=10))
        self.client = httpx2.Client(base_url=found[1], timeout=60)

    def read(self, picture: bytes) -> httpx2.Response:
        return self.client.post("/v1/read", content=picture)

    def metrics(self) -> dict[str, float]:
        """The values by series."""
        lines = self.client.get("/metrics").text.splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def stop(self, signum: int = signal.SIGTERM) -> tuple[int, list[str]]:
        """The exit status, and the lines on standard error."""
        self.process.send_signal(signum)
        return self.ended()

    def ended(self) -> tuple[int, list[str]]:
        out, err = self.process.communicate(timeout=60)
        assert out == ""
        return self.process.returncode, err.splitlines()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers = []

    def begin(*options: str) -> Server:
        servers.append(Server(tmp_path, *options))
        return servers[-1]

    yield begin
    for server in servers:
        server.client.close()
        if server.process.poll() is None:
            server.process.terminate()
            server.process.communicate(timeout=60)


READ = re.compile(r"\S+ \S+ POST /v1/read (\d+) \d+ bytes \d+ ms")


def logged(lines: list[str]) -> list[str]:
    """The statuses of the answers to pictures."""
    return [found[1] for line in lines if (found := READ.fullmatch(line))]


def under_way(server: Server, count: int, picture: bytes) -> list[Future[httpx2.Response]]:
    """Requests that the server has begun to answer, as futures of their statuses."""
    threads = ThreadPoolExecutor(count)
    taken = [threads.submit(server.read, picture) for _ in range(count)]
    wait_until(lambda: server.metrics()["http_requests_open"] > count)  # one asks for the metrics
    threads.shutdown(wait=False)
    return taken


@pytest.mark.parametrize(
    ("signum", "status", "options"),
    [
        (signal.SIGINT, 130, []),
        (signal.SIGTERM, 143, ["--workers=2"]),
        pytest.param(signal.SIGINT, 130, ["--workers=2"], marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, [], marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_it_after_what_is_under_way(
    serve: Callable[..., Server], options: list[str], signum: signal.Signals, status: int
) -> None:
    server = serve(*options)
    taken = under_way(server, 4, PHOTO.read_bytes())
    code, lines = server.stop(signum)
    assert [each.result().json()["text"] for each in taken] == ["20251\n7403986"] * 4
    assert code == status
    assert lines[-1] == f"Stopped by {signum.name}."
    assert sum(bool(READ.fullmatch(line)) for line in lines) == 4
    with pytest.raises(httpx2.ConnectError):
        server.read(BLANK)


@pytest.mark.parametrize("seconds", [0.1, 0.8])
def test_ctrl_c_on_a_terminal_stops_workers_that_still_start_in_one_line(
    tmp_path: Path, seconds: float
) -> None:
    command = [sys.executable, "-m", "mnist_lit", "serve", "--port=0", "--workers=2"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline()
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        assert process.communicate(timeout=60) == ("", "Stopped by SIGINT.\n")
        assert process.returncode == 130


def test_the_python_of_the_documentation_prints_the_digits(serve: Callable[..., Server]) -> None:
    root = PHOTO.parent.parent
    [code, _] = re.findall(
        r"```python\n(.+?)```", (root / "docs/serving.md").read_text(), re.DOTALL
    )
    code = code.replace("http://localhost:8000", str(serve().client.base_url))
    out = subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True)
    assert out == "20251\n7403986\n"


def test_a_stop_says_what_it_waits_for_and_ctrl_c_ends_it_at_once(
    serve: Callable[..., Server],
) -> None:
    server = serve()
    address = (server.client.base_url.host, server.client.base_url.port)
    with socket.create_connection(address) as stalled:
        stalled.sendall(b"POST /v1/read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n.")
        wait_until(lambda: server.metrics()["http_requests_open"] > 1)
        server.process.send_signal(signal.SIGTERM)
        waiting = "Waiting for one request; press Ctrl-C to stop at once.\n"
        assert server.process.stderr
        assert waiting in server.process.stderr
        assert server.stop(signal.SIGINT) == (-signal.SIGINT, [])


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the children of a process")
def test_a_stop_ends_within_its_time_whatever_is_being_read(serve: Callable[..., Server]) -> None:
    server = serve("--max-seconds=3")
    assert server.read(PAGE).status_code == 200
    for pid in reading(server.process.pid):
        os.kill(pid, signal.SIGSTOP)
    [hanging] = under_way(server, 1, PAGE)
    code, lines = server.stop()
    assert hanging.result().status_code == 503
    assert (code, lines[-1]) == (143, "Stopped by SIGTERM.")


def reading(pid: int) -> list[int]:
    """The processes below one that read pictures."""
    children = [
        int(child)
        for tasks in Path(f"/proc/{pid}/task").glob("*/children")
        for child in tasks.read_text().split()
    ]
    own = [
        c for c in children if b"mnist_lit.server.child" in Path(f"/proc/{c}/cmdline").read_bytes()
    ]
    return own + [each for child in children for each in reading(child)]


def test_a_server_for_all_names_prints_one_that_it_is_called_by(tmp_path: Path) -> None:
    options = ("--host=0.0.0.0", "--allow-host=digits.example.org", "--port=0")
    with start("serve", *options, cwd=tmp_path) as process:
        assert process.stdout
        assert "Serving at http://digits.example.org:" in process.stdout.readline()
        process.terminate()


def test_under_load_every_request_that_is_taken_up_is_answered(
    serve: Callable[..., Server],
) -> None:
    server = serve()
    stopped: list[bool] = []

    def ask() -> int:
        """As often as there is an answer."""
        answers = 0
        while True:
            try:
                answers += server.read(BLANK).status_code == 200
            except httpx2.TransportError:
                assert stopped
                return answers

    with ThreadPoolExecutor(8) as threads:
        clients = [threads.submit(ask) for _ in range(8)]
        answered = 'http_request_duration_seconds_count{path="/v1/read"}'
        wait_until(lambda: server.metrics().get(answered, 0) >= 50)
        stopped.append(True)
        _, lines = server.stop()
    assert logged(lines) == ["200"] * sum(each.result() for each in clients)


def test_a_killed_worker_is_replaced_and_the_metrics_are_those_of_all(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    server = serve("--workers=2")
    url = server.client.base_url

    def workers() -> set[int]:
        """Those that have begun, and have not been found dead."""
        return {int(file.stem.rpartition("_")[2]) for file in tmp_path.glob("tmp*/gauge_live*")}

    wait_until(lambda: len(workers()) == 2)
    killed, other = workers()
    os.kill(killed, signal.SIGKILL)
    answered = []

    def ask() -> None:
        response = httpx2.post(f"{url}/v1/read", content=BLANK, timeout=60)
        answered.append(response.status_code == 200)

    def replaced() -> bool:
        ask()
        return killed not in workers() and len(workers()) == 2

    wait_until(replaced)
    for _ in range(10):  # connections of their own, for either worker
        ask()
    assert other in workers()
    metrics = server.metrics()
    assert metrics['http_requests_total{method="POST",path="/v1/read",status="200"}'] == sum(
        answered
    )
    assert metrics["http_requests_open"] == 1
    assert server.stop()[0] == 143
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_thousand_damaged_pictures_do_no_harm(serve: Callable[..., Server]) -> None:
    server = serve()
    statuses = [response.status_code for response in uploads(server.client, 1000)]
    assert set(statuses) <= {200, 413, 415, 422}
    assert server.read(PAGE).json()["text"] == "31\n4159"
    _, lines = server.stop()
    assert logged(lines) == [*map(str, statuses), "200"]


@pytest.mark.parametrize("options", [[], ["--workers=2"]], ids=["one", "two"])
def test_the_log_has_nothing_of_a_picture(serve: Callable[..., Server], options: list[str]) -> None:
    server = serve(*options)
    for content in (PAGE, b"?"):
        server.client.post("/v1/read?name=holiday", files={"picture": ("holiday.png", content)})
    strange = b"--x\r\nholiday\r\n\r\n--x--"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert server.client.post("/v1/read", content=strange, headers=headers).status_code == 400
    _, lines = server.stop()
    assert len(lines) == 4  # the last is about the signal
    assert logged(lines) == ["200", "415", "400"]


def test_the_limits_are_set_by_options(serve: Callable[..., Server]) -> None:
    server = serve("--max-megabytes=0.002", "--max-megapixels=0.05")
    assert "larger than 0.002 MB" in refused(server.read(PAGE), 413)
    assert "more than 0.05 megapixels" in refused(server.read(BLANK), 413)
    assert "within 0.001 seconds" in serve("--max-seconds=0.001").read(PHOTO.read_bytes()).text


def test_the_page_is_opened_in_a_browser(
    serve: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = tmp_path / "browser"
    browser.write_text('#!/bin/sh\necho "$1" > part && mv part opened\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    server = serve("--open")
    wait_until((tmp_path / "opened").exists)
    assert (tmp_path / "opened").read_text().strip() == str(server.client.base_url)


def test_the_running_server_has_loaded_neither_torch_nor_matplotlib(
    serve: Callable[..., Server],
) -> None:
    server = serve()
    server.read(PAGE)
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert not re.search(r"/(torch|matplotlib|scipy)/", maps)


# ---- mistakes ----


@pytest.mark.parametrize(
    ("options", "what", "what_to_do"),
    [
        (["--port=70000"], "--port: 70000 is not between 0 and 65535", "serve --help"),
        (["--port=high"], "--port: invalid number value: 'high'", "serve --help"),
        (["--workers=0"], "--workers: 0 is not between 1 and 1000", "serve --help"),
        (["--max-seconds=nan"], "--max-seconds: nan is not between", "serve --help"),
        (["--host=nowhere.invalid"], "Cannot listen at nowhere.invalid, port 8000: ", "--host"),
        (["--host=a..b"], "Cannot listen at a..b, port 8000: Invalid host name.", "--host"),
        (
            ["--host=0.0.0.0"],
            "At 0.0.0.0, other machines can reach the server",
            "--allow-host NAME",
        ),
        (
            ["--allow-host=http://a"],
            "'http://a' is not a valid host name",
            "such as digits.example",
        ),
        (["--host="], "Cannot listen at an empty host, port 8000: ", "another --host"),
        (
            ["--port=0", "--model=no.onnx"],
            "The model no.onnx does not exist",
            "export --ckpt_path best",
        ),
        (["--port=0", f"--model={'a' * 300}"], "aaa cannot be read: File name too long", "Export"),
        (
            ["--port=0", "--model=bad.onnx", "--workers=3"],
            "bad.onnx cannot be used as a model",
            "export",
        ),
    ],
)
def test_mistakes_are_told_in_two_lines_before_anything_starts(
    mnist_lit: Command, tmp_path: Path, options: list[str], what: str, what_to_do: str
) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    outcome = mnist_lit("serve", *options)
    assert (outcome.status, outcome.out) == (2, "")
    first, second = outcome.err.splitlines()
    assert what in first
    assert what_to_do in second


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_is_told(mnist_lit: Command, workers: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        outcome = mnist_lit("serve", f"--port={port}", f"--workers={workers}")
    assert (outcome.status, outcome.out) == (2, "")
    first, second = outcome.err.splitlines()
    assert first == f"error: Cannot listen at 127.0.0.1, port {port}: Address already in use."
    assert "--port" in second


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "python_multipart", "fastapi_offline"])
def test_without_what_it_needs_the_command_says_how_to_install_it(missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; from mnist_lit.__main__ import main;"
    code += "sys.exit(main(['serve', '--port=0']))"
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.returncode == 2
    assert process.stderr == (
        f"error: The server needs {missing}, which is not installed.\n"
        "In the project's directory, run: pip install '.[serve]'\n"
    )


def test_help_does_without_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys; from mnist_lit.__main__ import main\n"
        "try: main(['serve', '--help'])\n"
        "finally: assert not {'fastapi', 'uvicorn', 'numpy'} & sys.modules.keys()"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert "--allow-host" in out


def test_a_folder_that_cannot_take_corrections_is_an_error_at_once(mnist_lit: Command) -> None:
    Path("file").write_text("")
    outcome = mnist_lit("serve", "--port=0", "--collect=file/hands")
    assert outcome.status == 2
    assert outcome.err.startswith("error: file/hands cannot be written: ")
