"""Postgres' own logical replication: a subscription on the target, without the broker in between."""

from tests.bench.contender import Task, create_slot, expect
from tests.bench.measure import Drain, watch
from tests.bench.workload import PUBLICATION, Milestones, create_table, digest, parse_lsn


class Native:
    """Source log → target table, by the apply worker; its CPU includes the writing of the rows."""

    name = "native"

    def prepare(self, task: Task) -> None:
        """See `Contender`."""
        create_slot(task, task.name(self.name))

    def drain(self, task: Task, milestones: Milestones) -> Drain:
        """See `Contender`."""
        name, bench = task.name(self.name), task.bench
        target = bench.target.create_database(name)
        create_table(target)
        with target.connect() as connection:
            options = f"create_slot = false, slot_name = '{name}', copy_data = false, synchronous_commit = off"
            connection.execute(
                f"CREATE SUBSCRIPTION {name} CONNECTION '{task.database.dsn()}' "
                f"PUBLICATION {PUBLICATION} WITH ({options})".encode()
            )

            def arrived() -> float:
                position = connection.execute(
                    "SELECT s.remote_lsn FROM pg_replication_origin_status AS s, pg_subscription AS p"
                    " WHERE s.external_id = 'pg_' || p.oid AND p.subname = %s",
                    [name],
                ).fetchone()
                return milestones.events_at(parse_lsn(position[0])) if position and position[0] else 0.0

            def pids() -> list[int]:
                worker = "SELECT pid FROM pg_stat_subscription WHERE subname = %s AND pid IS NOT NULL"
                return [pid for (pid,) in connection.execute(worker, [name]).fetchall()]

            drain = watch(
                self.name,
                task.workload.name,
                task.run,
                events=task.workload.events,
                arrived=arrived,
                pids=pids,
                explain=bench.target.process.tail,
            )
            tail = bench.target.process.tail
            expect(f"rows of {name}", lambda: digest(target), digest(task.database), tail)
            connection.execute(f"ALTER SUBSCRIPTION {name} DISABLE".encode())
            connection.execute(f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)".encode())
            connection.execute(f"DROP SUBSCRIPTION {name}".encode())
        target.drop()
        return drain
