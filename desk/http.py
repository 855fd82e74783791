"""How requests are read off a connection: by httptools, whose parser is compiled. Knows no route.

That parser keeps whatever comes before a body, however much it is; so the head of a request has a limit here.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
"""Of the line and the headers of a request; by as much as the loop reads at once it may be longer."""


class BoundedHttp(HttpToolsProtocol):
    """Refuses a request whose head does not end."""

    _in_head = False
    _head_bytes = 0

    def on_message_begin(self) -> None:
        """A request begins, at the beginning of what has come or anywhere in it."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Some bytes have come."""
        went_on = self._in_head
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data) if went_on else 0
        if self._head_bytes > MOST_HEAD_BYTES:
            self.send_400_response("The head of the request is too long.")
