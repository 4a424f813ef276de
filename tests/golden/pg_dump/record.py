"""Records what a real pg_dump writes of an odd schema: `python -m tests.golden.pg_dump.record`.

Out: `pre-data.sql` and `post-data.sql`, of `schema.sql` beside this file and of what `cdc setup` makes.
"""

import subprocess
import tempfile
from pathlib import Path

from cdc.postgres.messages import EVENT_TRIGGER
from tests.servers.postgres import Postgres

HERE = Path(__file__).parent


def main() -> None:
    """Start a server, make the schema, dump it."""
    with (
        tempfile.TemporaryDirectory(prefix="pg_dump-") as directory,
        Postgres(Path(directory) / "postgres") as postgres,
    ):
        Path(directory).chmod(0o755)
        odd = postgres.create_database("odd")
        odd.execute((HERE / "schema.sql").read_text())
        odd.execute("CREATE SCHEMA cdc")
        odd.execute(EVENT_TRIGGER)
        for section in ("pre-data", "post-data"):
            options = ["--schema-only", f"--section={section}", "--exclude-schema=cdc", "--no-owner", "--no-privileges"]
            command = [str(postgres.pg_dump), *options, "--no-subscriptions", "--no-tablespaces"]
            done = subprocess.run(command, env=postgres.env("odd"), capture_output=True, check=True)
            (HERE / f"{section}.sql").write_bytes(done.stdout)


if __name__ == "__main__":
    main()
