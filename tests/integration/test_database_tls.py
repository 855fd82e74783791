"""PostgreSQL by TLS: `verify-full` with the right authority and name, and what each wrong one looks like.

The embedded server is built without TLS, so a relay in front of it speaks it: as libpq does, it asks first whether TLS
is wanted and hands the rest on.
"""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

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


class Bank:
    """The authorities of both sides, relays with certificates of theirs, and the files of clients."""

    def __init__(self, folder: Path, server: DatabaseConnection) -> None:
        self._authority, stranger, clients = trustme.CA(), trustme.CA(), trustme.CA()
        self.folder = folder
        self.server = urlsplit(server.url)
        (self.passfile,) = parse_qs(self.server.query)["passfile"]
        self._authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        stranger.cert_pem.write_to_path(str(folder / "stranger.pem"))
        yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        self._written("client", clients.issue_cert("foreshock@bank.example"))
        self._written("other", stranger.issue_cert("foreshock@bank.example"))
        self._written("old", clients.issue_cert("foreshock@bank.example", not_after=yesterday))
        self.relays = {
            "plain": self._relay(self._authority.issue_cert("localhost")),
            "expired": self._relay(self._authority.issue_cert("localhost", not_after=yesterday)),
            "mutual": self._relay(self._authority.issue_cert("localhost"), clients),
        }

    def _written(self, name: str, issued: trustme.LeafCert) -> None:
        (self.folder / f"{name}.crt").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        key = self.folder / f"{name}.key"
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o600)

    def _relay(self, issued: trustme.LeafCert, clients: trustme.CA | None = None) -> Relay:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(context)
        if clients is not None:
            clients.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return Relay(("127.0.0.1", self.server.port or 0), context)

    def password(self) -> str:
        return Path(self.passfile).read_text().strip().rpartition(":")[2]

    def connection(self, relay: str = "plain", host: str = "localhost", **parameters: Any) -> DatabaseConnection:
        """By a relay with everything right, but for `parameters`; a password stands apart unless there is a file."""
        given = {"sslmode": "verify-full", "sslrootcert": self.folder / "ca.pem", **parameters}
        query = "&".join(f"{name}={value}" for name, value in given.items())
        port = self.relays[relay].port if relay in self.relays else self.server.port
        found = DatabaseConnection.from_settings(
            load_settings(
                database_url=f"postgresql://{self.server.username}@{host}:{port}{self.server.path}?{query}",
                database_password=None if "passfile" in given else self.password(),
            )
        )
        assert found is not None
        return found

    def certificate(self, name: str) -> dict[str, Path]:
        return {"sslcert": self.folder / f"{name}.crt", "sslkey": self.folder / f"{name}.key"}


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, server_database: DatabaseConnection) -> Iterator[Bank]:
    made = Bank(tmp_path_factory.mktemp("authorities"), server_database)
    yield made
    for relay in made.relays.values():
        relay.close()


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """libpq would take a certificate from the folder of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))


def works(database: DatabaseConnection) -> bool:
    with database.connect() as connection:
        return connection.pgconn.ssl_in_use and connection.execute("SELECT 1").fetchone() == (1,)


def test_the_right_authority_and_name(bank: Bank) -> None:
    assert works(bank.connection())


def test_a_client_certificate(bank: Bank) -> None:
    assert works(bank.connection("mutual", **bank.certificate("client")))


@pytest.mark.parametrize(
    ("relay", "host", "differing", "words"),
    [
        ("plain", "localhost", {"sslrootcert": "stranger.pem"},
         "comes from an authority that is not trusted"),
        ("plain", "127.0.0.1", {}, "connect by a name that is in the server's certificate"),
        ("plain", "localhost", {"sslrootcert": "missing.pem"}, "missing.pem"),
        ("expired", "localhost", {}, "the server's certificate has expired"),
        ("mutual", "localhost", {}, "the server wants a client certificate: set sslcert and sslkey"),
        ("mutual", "localhost", {"sslcert": "other.crt", "sslkey": "other.key"},
         "the server does not trust the authority of the client certificate"),
        ("mutual", "localhost", {"sslcert": "old.crt", "sslkey": "old.key"}, "the client certificate"),
        ("mutual", "localhost", {"sslcert": "client.crt", "sslkey": "other.key"}, "is not the key of sslcert"),
        ("none", "localhost", {}, "the server has no TLS"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(bank: Bank, relay: str, host: str, differing: dict[str, str], words: str) -> None:
    files = {name: bank.folder / file for name, file in differing.items()}
    with pytest.raises(DatabaseUnavailable) as caught:
        bank.connection(relay, host, **files).connect()
    assert words in str(caught.value)
    assert bank.password() not in str(caught.value)


def test_a_private_key_that_others_may_read_is_refused(bank: Bank) -> None:
    key = bank.folder / "open.key"
    key.write_bytes((bank.folder / "client.key").read_bytes())
    key.chmod(0o644)
    with pytest.raises(DatabaseUnavailable, match=r"private key file .*open\.key.* has group or world access"):
        bank.connection("mutual", sslcert=bank.folder / "client.crt", sslkey=key).connect()


def test_a_password_file(bank: Bank, tmp_path: Path) -> None:
    passfile = tmp_path / "passfile"
    passfile.write_text(f"localhost:*:*:{bank.server.username}:{bank.password()}\n")
    passfile.chmod(0o600)
    assert works(bank.connection(passfile=passfile))
    passfile.chmod(0o640)
    with pytest.raises(DatabaseUnavailable, match=r"no password supplied; .*passfile.*only you may read"):
        bank.connection(passfile=passfile).connect()
    passfile.chmod(0o600)
    passfile.write_text(f"localhost:*:*:{bank.server.username}:guessed\n")
    with pytest.raises(DatabaseUnavailable, match="password authentication failed") as caught:
        bank.connection(passfile=passfile).connect()
    assert "guessed" not in str(caught.value)
