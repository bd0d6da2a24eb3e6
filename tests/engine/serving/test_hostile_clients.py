"""Clients that are slow, gone, too many or too large are the service's trouble, not the others'."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from hficma.engine.serving import server as serving
from tests.engine.serving.servers import Server, running_server

PNG = {"content-type": "image/png"}
BODY = 300_000
"""Bytes of a body that the small server takes."""


@pytest.fixture(scope="module")
def small_server(kitchen: Path) -> Iterator[Server]:
    """A server that takes little at once."""
    words = ("--queue", "1", "--batch", "1", "--deadline", "5", "--body-megabytes", str(BODY / 1e6))
    with running_server("--index", kitchen / "recipes", *words) as server:
        yield server


def head(server: Server, length: int, *, kind: str = "image/png") -> bytes:
    return (
        f"POST /search HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {length}\r\n"
    ).encode()


def connected(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def test_a_large_body_is_refused_before_it_is_sent(small_server: Server) -> None:
    """Its length is in its head; a client that waits for leave never gets it."""
    with connected(small_server) as client:
        client.sendall(head(small_server, 10**12) + b"Expect: 100-continue\r\n\r\n")
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_a_body_that_hides_its_length_is_cut_off(small_server: Server) -> None:
    """In chunks, a client says no length: what comes is counted."""

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(BODY // 10)

    with small_server.client() as client:
        try:
            status = client.post("/search", content=endless(), headers=PNG).status_code
        except httpx.HTTPError:  # the connection ended while it was still sending
            status = 413
        assert status == 413
        assert client.get("/health/ready").status_code == 200


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(
    small_server: Server, photo: bytes
) -> None:
    """Whoever is refused is told in no time; whoever is accepted is answered."""

    async def ask_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=small_server.url, timeout=60) as client:
            requests = [client.post("/search", files={"photo": photo}) for _ in range(40)]
            return await asyncio.gather(*requests)

    responses = asyncio.run(ask_all())
    refused = [one for one in responses if one.status_code == 429]
    assert {one.status_code for one in responses} == {200, 429}
    assert all(int(one.headers["retry-after"]) >= 1 for one in refused)


def test_others_notice_nothing_of_slow_half_sent_and_dead_clients(
    server: Server, photo: bytes
) -> None:
    """Fifty that send no head, fifty half a body, and twenty that are killed while they wait."""
    slow = [connected(server) for _ in range(100)]
    for client in slow[:50]:
        client.sendall(b"POST /search HTTP/1.1\r\nHost: 127")
    for client in slow[50:]:
        client.sendall(head(server, len(photo)) + b"\r\n" + photo[: len(photo) // 2])
    # Killed: the system closes the sockets of such a client with a reset.
    killed = subprocess.Popen([sys.executable, "-c", _KILLED, str(server.port)], stdin=-1)
    assert killed.stdin is not None
    killed.stdin.write(photo)
    killed.stdin.close()
    time.sleep(0.3)
    killed.kill()
    killed.wait()
    with server.client() as client:
        for _ in range(5):
            start = time.monotonic()
            assert client.post("/search", files={"photo": photo}).status_code == 200
            assert time.monotonic() - start < 5
    for client in slow:
        client.close()
    with server.client() as client:
        assert client.get("/health/ready").status_code == 200
    assert not any("Traceback" in line for line in server.lines)


_KILLED = """
import socket, sys
photo = sys.stdin.buffer.read()
head = f"POST /search?exact=true HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nContent-Type: image/png\\r\\n"
head += f"Content-Length: {len(photo)}\\r\\n\\r\\n"
clients = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(20)]
for client in clients:
    client.sendall(head.encode() + photo)
input()
"""


class Application:
    """Answers 204 to whatever reaches it, after a while; refuses the first searches.

    Args:
        refusals: how many.
    """

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.bodies: list[bytes] = []

    def quick_refusal(self) -> bytes | None:
        self.refusals -= 1
        return b"HTTP/1.1 429 No\r\ncontent-length: 0\r\n\r\n" if self.refusals >= 0 else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.bodies.append((await receive())["body"])
        await asyncio.sleep(0.2)  # longer than a head may take
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def answers_to(app: Application, *pieces: bytes) -> bytes:
    """What the protocol sends back to what comes in pieces, until it falls silent."""
    config = uvicorn.Config(
        app, http=serving.BoundedProtocol, lifespan="off", log_config=None, proxy_headers=False
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    answer = b""
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.02)
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while True:
            async with asyncio.timeout(0.5):
                if not (more := await reader.read(4096)):
                    break
                answer += more
    writer.close()
    server.should_exit = True
    await task
    return answer


def test_a_head_that_does_not_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn alone would wait for ever; one that is whole may take its time to be answered."""
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.1)
    assert asyncio.run(answers_to(Application(), b"GET / HTTP/1.1\r\n")) == b""
    whole = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert asyncio.run(answers_to(Application(), whole)).startswith(b"HTTP/1.1 204")


def test_a_refused_search_takes_its_body_with_it() -> None:
    """What is refused before it is parsed must not leave its photo to be read as a request."""
    head = b"POST /search?k=1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    photo = b"POST /search HTTP/1.1\r\ncontent-length: 1\r\n\r\n"
    one = head % len(photo) + photo
    cuts = (slice(0, 70), slice(70, 90), slice(90, None))
    for pieces in ([one * 3], [one[:90], one[90:] + one * 2], [(one * 3)[cut] for cut in cuts]):
        app = Application(refusals=2)
        answer = asyncio.run(answers_to(app, *pieces))
        assert [answer.count(b"HTTP/1.1 " + status) for status in (b"429", b"204")] == [2, 1]
        assert app.bodies == [photo]
    # In chunks, the end of a body is not known before it is parsed: that goes the long way.
    chunks = (
        b"POST /search HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    )
    assert asyncio.run(answers_to(Application(refusals=9), chunks)).startswith(b"HTTP/1.1 204")


def test_a_stop_answers_what_was_asked_and_then_ends(kitchen: Path, photo: bytes) -> None:
    """A new version must come without an error: even who is still sending a photo is answered."""
    with running_server("--index", kitchen / "recipes") as server:
        clients = [connected(server) for _ in range(6)]
        for client in clients:
            client.sendall(head(server, len(photo)) + b"\r\n" + photo[:1000])
        with server.client() as other:  # the loop answers this after it has read the heads
            for _ in range(3):
                assert other.get("/health/ready").status_code == 200
        server.process.terminate()
        time.sleep(0.2)
        for client in clients:
            client.sendall(photo[1000:])
        for client in clients:
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
            client.close()
        assert server.process.wait(timeout=30) == 0


def test_what_cannot_be_served_is_one_line(kitchen: Path, tmp_path: Path) -> None:
    """A wrong index, a key that is too short and a taken port, before anything listens."""
    (tmp_path / "keys").write_text("short\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words, line in (
            (["--index", str(tmp_path)], "no index"),
            (["--index", str(kitchen / "recipes"), "--writable"], "API keys"),
            (
                ["--index", str(kitchen / "recipes"), "--api-key-file", str(tmp_path / "keys")],
                "shorter than 16",
            ),
            (["--index", str(kitchen / "recipes"), "--port", port], "cannot be listened on"),
        ):
            ended = subprocess.run(
                [sys.executable, "-m", "hficma.cli", "serve", "--port", "0", *words],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert ended.returncode == 2, ended.stderr
            assert line in ended.stderr.splitlines()[-1]
            assert "Traceback" not in ended.stderr
