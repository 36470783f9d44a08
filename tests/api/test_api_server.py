"""The application behind its real server, spoken to byte by byte."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator

import pytest

from tests.api.base import TOKEN, make_base
from tests.api.serving import Served

HEAD = f"Host: localhost\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n".encode()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    made = Served(make_base().app())
    made.start()
    yield made
    made.stop()


def exchange(served: Served, sent: bytes) -> tuple[int, bytes]:
    """Send *sent* as it is; return status and body of the answer."""
    with socket.create_connection(("127.0.0.1", served.port), 10) as connection:
        connection.sendall(sent)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    answer = b""
    while piece := connection.recv(65_536):
        answer += piece
        head, found, body = answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0].strip()
        if found and length and len(body) >= int(length):
            break
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def get(path: bytes, more: bytes = b"") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + HEAD + more + b"\r\n"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (b"/api/v1/sites", 200),
        (b"/api/v1/series/a%00b", 400),
        (b"/api/v1/series/%ff%fe", 404),
        (b"/api/v1/series/%zz", 404),
        (b"/api/v1/series/..%2f..%2fetc%2fpasswd", 404),
        (b"//api/v1/sites", 404),
        (b"/api/v1/latest?site=%ff%00%0d%0aX: y", 400),  # a space ends the path
        (b"/api/v1/latest?site=%0d%0aX-Injected:%201", 422),
        (b"/api/v1/latest?" + b"&".join(b"a%d=1" % one for one in range(3000)), 422),
        (b"/api/v1/latest?" + b"&" * 5000, 200),
        (b"/api/v1/latest?site=" + b"x" * 50_000, 422),
    ],
)
def test_any_path_is_answered_and_never_with_500(served, path, status):
    assert exchange(served, get(path))[0] == status


@pytest.mark.parametrize(
    "header",
    [
        b"Authorization: Bearer \xff\xfe\r\n",
        b"Accept: \xff;q=\xff\r\n",
        b"Accept: " + b"," * 5000 + b"\r\n",
        b"Accept-Language: \xff\xfe,,;q=,\r\n",
        b"Cookie: lang=\xff\r\n",
        b"X-Forwarded-For: \x01\r\n",
    ],
)
@pytest.mark.parametrize("path", [b"/", b"/api/v1/readings?series=climate-1.co2"])
def test_a_header_of_any_bytes_is_no_error_of_ours(served, path, header):
    request = b"GET " + path + b" HTTP/1.1\r\n" + header + HEAD + b"\r\n"
    assert exchange(served, request)[0] in (200, 400, 401, 406)


def test_an_endless_body_is_refused_while_it_is_still_coming(served):
    """60 MB would fit in no test's patience if it were read; here the sender is stopped."""
    head = b"POST /api/v1/readings HTTP/1.1\r\n" + HEAD
    head += b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", served.port), 10) as connection:
        connection.sendall(head)
        while not select.select([connection], [], [], 0.02)[0]:
            assert sent < 60_000_000
            connection.sendall(chunk)
            sent += len(chunk)
        status, body = read_answer(connection)
    assert status == 413
    assert json.loads(body)["type"].endswith(":body-too-large")
    assert sent < 3_000_000


def test_an_announced_large_body_is_refused_before_it_is_sent(served):
    head = b"POST /api/v1/readings HTTP/1.1\r\n" + HEAD
    head += b"Content-Type: application/json\r\nContent-Length: 60000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), 10) as connection:
        connection.sendall(head)
        status, body = read_answer(connection)
    assert status == 413
    assert json.loads(body)["status"] == 413


def test_a_sender_that_hangs_up_in_the_middle_leaves_nothing_behind(served):
    head = b"POST /api/v1/readings HTTP/1.1\r\n" + HEAD
    head += b"Content-Type: application/json\r\nContent-Length: 500\r\n\r\n" + b'{"v": '
    with socket.create_connection(("127.0.0.1", served.port), 10) as connection:
        connection.sendall(head)
    assert exchange(served, get(b"/healthz/live"))[0] == 200
