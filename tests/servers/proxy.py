"""A TCP proxy on 127.0.0.1 in front of a server, to take that server away from its clients.

In: the server's port. Out: a port that behaves like it, until `cut` (connections dropped, new ones refused)
or `stall` (connections stay, new ones are accepted, no byte passes); `restore` ends both.
"""

import socket
import threading
from types import TracebackType
from typing import Self

from tests.servers.process import free_port


class Proxy:
    """One listening port, two threads per connection."""

    def __init__(self, target: int, port: int | None = None) -> None:
        self.target = target
        self.port = port or free_port()
        self._flowing = threading.Event()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self.restore()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    @property
    def connections(self) -> int:
        """How many client connections are open."""
        with self._lock:
            return len(self._open) // 2

    def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        with self._lock:
            listener, self._listener = self._listener, None
            dropped = list(self._open)
        if listener:
            _shut(listener)
            listener.close()
        for one in dropped:
            _shut(one)
        self._flowing.set()  # lets stalled pumps find their sockets shut

    def stall(self) -> None:
        """Keep connections open and accept new ones, but pass nothing."""
        self._flowing.clear()

    def restore(self) -> None:
        """Pass everything again; what a stall held back goes first."""
        with self._lock:
            if self._listener is None:
                self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
                threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        self._flowing.set()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            with self._lock:
                if self._listener is not listener:
                    client.close()
                    server.close()
                    return
                self._open |= {client, server}
            threading.Thread(target=self._connection, args=(client, server), daemon=True).start()

    def _connection(self, client: socket.socket, server: socket.socket) -> None:
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        back.start()
        self._pump(client, server)
        back.join()
        with self._lock:
            self._open -= {client, server}
        client.close()
        server.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                self._flowing.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One broken side ends both directions, or the other pump would wait for ever.
            _shut(source)
            _shut(sink)


def _shut(one: socket.socket) -> None:
    # Unlike close, this wakes a thread that is blocked in accept, recv or send.
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
