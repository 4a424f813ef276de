"""The replication connection: slots and the stream of one slot. I/O only; bytes go to `wire`.

In: a server, a slot, a publication. Out: pgoutput messages with their LSN, in batches; acknowledgements back.
Refuses: a slot that another process holds (SOURCE_HELD); every error of the server as a `CdcError`.

psycopg has no replication API; this drives libpq through `psycopg.pq`, the only file that does. The connection is
asynchronous in one way: `read` never waits longer than it is told, and answers the server's keepalives itself, so
that a loop which is held up elsewhere only has to call `keep_alive`.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import errors, pq

from cdc.errors import SOURCE_HELD, SOURCE_UNREACHABLE, CdcError
from cdc.position import Lsn
from cdc.postgres.session import Server
from cdc.postgres.wire import XLOG_DATA_HEADER, parse_keepalive, parse_xlog_header, status_update

_BATCH = 512
# The server's wal_sender_timeout is 60 s and it asks at half of that; a third leaves room for a slow answer.
_STATUS_EVERY_S = 10.0
_PATIENCE_S = 5.0
_XLOG_DATA, _KEEPALIVE = b"wk"


@dataclass(frozen=True, slots=True)
class SystemIdentity:
    system_id: str
    timeline: int
    wal_end: Lsn


@dataclass(frozen=True, slots=True)
class NewSlot:
    """A slot just made: its stream begins at `consistent_point`, which is also what the snapshot shows."""

    consistent_point: Lsn
    snapshot: str


def protocol_version(server_version: int) -> int:
    """pgoutput's version for a server: 14 → 2, 15 → 3 (4 is an error there), 16 and later → 4."""
    return 2 if server_version < 150000 else 3 if server_version < 160000 else 4


class ReplicationStream:
    """One walsender connection. It holds the slot as long as it lives."""

    def __init__(self, server: Server) -> None:
        self._server = server
        with server.errors():
            self._pgconn = pq.PGconn.connect(server.conninfo(replication="database").encode())
            if self._pgconn.status != pq.ConnStatus.OK:
                raise psycopg.OperationalError(self._pgconn.error_message.decode(errors="replace"), pgconn=self._pgconn)
        self.server_version = self._pgconn.server_version
        self.acknowledged = Lsn(0)
        self._reported = Lsn(0)
        self._reported_at = 0.0

    # -- commands -----------------------------------------------------------------------------------------------
    def identify(self) -> SystemIdentity:
        row = self._rows("IDENTIFY_SYSTEM")[0]
        return SystemIdentity(str(row[0]), int(str(row[1])), Lsn.parse(str(row[2])))

    def timeline_switches(self, timeline: int) -> list[tuple[int, Lsn]]:
        """The timelines before this one and where each was left, oldest first."""
        if timeline == 1:
            return []
        text = str(self._rows(f"TIMELINE_HISTORY {timeline}")[0][1])
        lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        return [(int(line[0]), Lsn.parse(line[1])) for line in lines]

    def create_slot(self, slot: str, waiting: Callable[[], None], *, temporary: bool = False) -> NewSlot:
        """Make the slot and export the snapshot of its consistent point, which lives until the next command.

        The server first waits for the transactions that are open now; `waiting` is called every few seconds of it.
        A temporary slot goes with this connection.
        """
        kind = "TEMPORARY LOGICAL" if temporary else "LOGICAL"
        failover = self.server_version >= 170000 and not temporary
        option = "(SNAPSHOT 'export', FAILOVER)" if failover else "(SNAPSHOT 'export')"
        if self.server_version < 150000:
            option = "EXPORT_SNAPSHOT"
        # The snapshot is kept by a transaction in which nothing happens.
        self._execute("SET idle_in_transaction_session_timeout = 0")
        if self.server_version >= 170000:
            self._execute("SET transaction_timeout = 0")
        with self._server.errors():
            self._pgconn.send_query(f"CREATE_REPLICATION_SLOT {_quoted(slot)} {kind} pgoutput {option}".encode())
            while self._pgconn.is_busy():
                ready, _, _ = select.select([self._pgconn.socket], [], [], _PATIENCE_S)
                if ready:
                    self._pgconn.consume_input()
                else:
                    waiting()
            row = self._cells(self._checked(self._pgconn.get_result()))[0]
            self._pgconn.get_result()
        return NewSlot(Lsn.parse(str(row[1])), str(row[2]))

    def start(self, slot: str, publication: str) -> None:
        """Begin to stream from the slot's confirmed position. From here on the slot is ours."""
        names = _quoted(publication).replace("'", "''")
        options = (
            f"proto_version '{protocol_version(self.server_version)}', publication_names '{names}', messages 'true'"
        )
        result = self._execute(f"START_REPLICATION SLOT {_quoted(slot)} LOGICAL 0/0 ({options})")
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise self._failed("the server did not begin to stream")
        self._pgconn.nonblocking = 1

    def _rows(self, command: str) -> list[list[str | None]]:
        return self._cells(self._execute(command))

    def _cells(self, result: pq.abc.PGresult) -> list[list[str | None]]:
        cells = [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]
        return [[None if cell is None else cell.decode() for cell in row] for row in cells]

    def _execute(self, command: str) -> pq.abc.PGresult:
        with self._server.errors():
            return self._checked(self._pgconn.exec_(command.encode()))

    def _checked(self, result: pq.abc.PGresult | None) -> pq.abc.PGresult:
        if result is None:
            raise self._failed("the server gave no answer")
        if result.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE):
            error = errors.error_from_result(result)
            if isinstance(error, errors.ObjectInUse):
                raise CdcError(SOURCE_HELD, source=self._server.name, holder=self._server.problem(error)) from None
            raise error
        return result

    # -- the stream ---------------------------------------------------------------------------------------------
    def read(self, timeout_s: float) -> list[tuple[int, bytes]]:
        """The next messages with their LSN; an empty list after the time-out."""
        messages = self._drain()
        if messages:
            return messages
        ready, _, _ = select.select([self._pgconn.socket], [], [], timeout_s)
        if ready:
            with self._server.errors():
                self._pgconn.consume_input()
            messages = self._drain()
        self.keep_alive()
        return messages

    def _drain(self) -> list[tuple[int, bytes]]:
        messages: list[tuple[int, bytes]] = []
        get = self._pgconn.get_copy_data
        for _ in range(_BATCH):
            with_data, view = get(1)
            if with_data <= 0:
                if with_data < 0:
                    raise self._ended()
                break
            data = bytes(view)
            tag = data[0]
            if tag == _XLOG_DATA:
                start, _ = parse_xlog_header(data)
                messages.append((start, data[XLOG_DATA_HEADER:]))
            elif tag == _KEEPALIVE:
                keepalive = parse_keepalive(data)
                if keepalive.reply_requested:
                    self.report()
        return messages

    def acknowledge(self, lsn: Lsn) -> None:
        """The log up to here may go. It is told at once if a while has passed, else with the next report."""
        self.acknowledged = max(self.acknowledged, lsn)
        if time.monotonic() - self._reported_at > 0.2:
            self.report()

    def keep_alive(self) -> None:
        """Report what is acknowledged if it moved or the server would grow impatient."""
        waited = time.monotonic() - self._reported_at
        if waited > _STATUS_EVERY_S or (waited > 0.2 and self.acknowledged != self._reported):
            self.report()

    def report(self) -> None:
        """Tell the server now."""
        with self._server.errors():
            self._pgconn.put_copy_data(status_update(self.acknowledged, time.time_ns() // 1000))
            self._pgconn.flush()
        self._reported, self._reported_at = self.acknowledged, time.monotonic()

    def _ended(self) -> CdcError:
        with self._server.errors():
            result = self._pgconn.get_result()
            if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
                raise errors.error_from_result(result)
        return self._failed("the server ended the stream")

    def _failed(self, problem: str) -> CdcError:
        return CdcError(SOURCE_UNREACHABLE, source=self._server.name, problem=problem)

    def close(self) -> None:
        self._pgconn.finish()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
