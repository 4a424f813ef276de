"""The dump connection: the binary log from a position on, event by event. I/O.

In: a server, the transactions that we have. Out: events as the server sent them (`wire` reads them), an empty list
after a time-out. Refuses: a lost or silent connection (SOURCE_UNREACHABLE), a log that no longer begins where we stand
(LOG_PURGED), to go on beside a newer dump of the same name (SOURCE_HELD).

pymysqlreplication logs in and asks for the dump; what follows is read here from the socket, in blocks. The server ends
an older dump of the same name by itself: both name themselves by the UUID that the source's name gives.
"""

from __future__ import annotations

import select
import ssl
import time
from uuid import NAMESPACE_URL, uuid5
from zlib import crc32

import pymysql
from pymysql.connections import Connection
from pymysqlreplication import BinLogStreamReader

from cdc.errors import LOG_PURGED, SOURCE_HELD, CdcError
from cdc.mysql.session import Server, close
from cdc.position import DomainPosition, GtidPosition

_BLOCK = 1 << 18
_HEARTBEAT_S = 5.0
_SILENT_S = 60.0
_OK, _EOF, _ERROR = 0x00, 0xFE, 0xFF
_WHOLE = 0xFFFFFF
"""A packet of this size goes on in the next one."""
_REFUSED, _PURGED = 1236, ("purged", "Could not find GTID state requested by slave in any binlog files")
"""What MySQL and MariaDB say where the log no longer begins early enough."""
_ONE_NAME = "same server_uuid/server_id"
"""What both say to the older one of two dumps: a process that took over while this one was frozen has begun to read."""


class BinlogStream:
    """One dump connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: Connection | None = None
        self._rest = bytearray()
        self._large: list[bytes] = []
        self._heard_at = time.monotonic()

    def start(self, executed: GtidPosition) -> None:
        """Ask for every transaction that is not in `executed`, in the server's order."""
        name = self._server.program
        on_mariadb = isinstance(executed, DomainPosition)
        with self._server.errors():
            reader = BinLogStreamReader(
                connection_settings={},
                server_id=crc32(name.encode()) | 1 << 31,
                blocking=True,
                is_mariadb=on_mariadb,
                auto_position=str(executed) if executed or not on_mariadb else "",
                slave_uuid=str(uuid5(NAMESPACE_URL, name)),
                slave_heartbeat=_HEARTBEAT_S,
                pymysql_wrapper=lambda **_: self._server.connect(settings={"net_write_timeout": 3600}),
                enable_logging=False,
            )
            # It has no public way to begin without reading on itself.
            reader._BinLogStreamReader__connect_to_stream()  # noqa: SLF001
        self._connection = reader._stream_connection  # noqa: SLF001
        self._socket = self._connection._sock  # noqa: SLF001
        self._heard_at = time.monotonic()

    def read(self, timeout_s: float) -> list[bytes]:
        """The events that have come, at most after `timeout_s`."""
        try:
            if not self._ready(timeout_s):
                self._refuse_silence()
                return []
            block = self._socket.recv(_BLOCK)
        except (OSError, ssl.SSLError) as error:
            raise self._server.unreachable(f"the dump connection broke: {error}") from None
        if not block:
            raise self._server.unreachable("the server closed the dump connection")
        self._heard_at = time.monotonic()
        self._rest += block
        return self._events()

    def _ready(self, timeout_s: float) -> bool:
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        return bool(select.select([self._socket], [], [], timeout_s)[0])

    def _refuse_silence(self) -> None:
        """The server has said that it sends a heartbeat every few seconds."""
        silent = time.monotonic() - self._heard_at
        if silent > _SILENT_S:
            raise self._server.unreachable(f"the server has sent nothing for {silent:.0f} s")

    def _events(self) -> list[bytes]:
        """Whole packets of what was read, each an event behind one byte; the rest waits for more."""
        if len(self._rest) < 4 + int.from_bytes(self._rest[:3], "little"):
            return []
        data, at, found = bytes(self._rest), 0, []
        end = len(data)
        while end - at >= 4:
            size = int.from_bytes(data[at : at + 3], "little")
            behind = at + 4 + size
            if behind > end:
                break
            packet = data[at + 4 : behind]
            at = behind
            if self._large or size == _WHOLE:
                self._large.append(packet)
                if size == _WHOLE:
                    continue
                packet, self._large = b"".join(self._large), []
            if packet[:1] != b"\0":
                raise self._refused(packet)
            found.append(packet[1:])
        del self._rest[:at]
        return found

    def _refused(self, packet: bytes) -> CdcError:
        if packet[:1] == bytes([_EOF]):
            return self._server.unreachable("the server ended the dump")
        if packet[:1] != bytes([_ERROR]) or len(packet) < 3:
            return self._server.unreachable(f"a packet that begins with {packet[:4]!r}")
        number = int.from_bytes(packet[1:3], "little")
        words = packet[9:].decode(errors="replace")
        if _ONE_NAME in words:
            holder = f"the server ended the dump: {self._server.hidden(words)}"
            return CdcError(SOURCE_HELD, source=self._server.name, holder=holder)
        if number == _REFUSED and any(word in words for word in _PURGED):
            return CdcError(LOG_PURGED, source=self._server.name, problem=self._server.hidden(words))
        return self._server.error(pymysql.OperationalError(number, words))

    def close(self) -> None:
        if self._connection is not None:
            close(self._connection)
