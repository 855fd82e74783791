"""PostgreSQL by TLS: `verify-full` with the right authority and name, and what each wrong one looks like.

The embedded server is built without TLS, so a relay in front of it speaks it: as libpq does, it asks first whether TLS
is wanted and hands the rest on.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from stream.database.connection import DatabaseConnection
from stream.database.errors import DatabaseUnavailable
from stream.settings import load_settings

SSL_REQUEST = struct.pack(">ii", 8, 80_877_103)


class Relay:
    """Ends TLS in front of a server on loopback."""

    def __init__(self, server: tuple[str, int], context: ssl.SSLContext) -> None:
        self._server = server
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        for opened in self._open:
            try:
                socket.socket.shutdown(opened, socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join()
        for opened in self._open:
            opened.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            self._run(self._serve, client)

    def _run(self, target: object, *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments))  # type: ignore[arg-type]
        self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if client.recv(8, socket.MSG_WAITALL) != SSL_REQUEST:
                client.close()
                return
            client.sendall(b"S")
            secured = self._context.wrap_socket(client, server_side=True)
        except OSError:  # the client does not like the certificate
            return
        server = socket.create_connection(self._server)
        self._open += [secured, server]
        self._run(self._pump, secured, server)
        self._pump(server, secured)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                sink.sendall(data)
        except OSError:
            pass
        try:
            socket.socket.shutdown(sink, socket.SHUT_RDWR)
        except OSError:
            return


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authorities")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "stranger.pem"))
    return folder


@pytest.fixture(scope="module")
def port(authority: trustme.CA, server_database: DatabaseConnection) -> Iterator[int]:
    server = urlsplit(server_database.url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    relay = Relay(("127.0.0.1", server.port or 0), context)
    yield relay.port
    relay.close()


def secured(url: str, port: int, host: str, authority: Path) -> DatabaseConnection:
    whole = urlsplit(url)
    found = DatabaseConnection.from_settings(
        load_settings(
            database_url=f"postgresql://{whole.username}@{host}:{port}{whole.path}?sslmode=verify-full"
            f"&sslrootcert={authority}",
            database_password="correct-horse",
        )
    )
    assert found is not None
    return found


def test_the_right_authority_and_name(files: Path, port: int, server_database: DatabaseConnection) -> None:
    with secured(server_database.url, port, "localhost", files / "ca.pem").connect() as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("host", "authority_file", "words"),
    [
        ("localhost", "stranger.pem", "set sslrootcert in database_url"),
        ("127.0.0.1", "ca.pem", "connect by a name that is in the server's certificate"),
        ("localhost", "missing.pem", "missing.pem"),
    ],
)
def test_a_wrong_authority_or_name_is_named(
    files: Path, port: int, server_database: DatabaseConnection, host: str, authority_file: str, words: str
) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        secured(server_database.url, port, host, files / authority_file).connect()
    assert words in str(caught.value)
    assert "horse" not in str(caught.value)


def test_a_server_without_tls_is_refused(server_database: DatabaseConnection, files: Path) -> None:
    port = urlsplit(server_database.url).port
    assert port is not None
    with pytest.raises(DatabaseUnavailable, match="the server has no TLS"):
        secured(server_database.url, port, "localhost", files / "ca.pem").connect()
