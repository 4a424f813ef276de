"""Every error a user can meet: one catalogue of codes, each with its text, its kind and what to do.

In: a `Code` and the facts its texts name. Out: `CdcError`, whose message says what is wrong, where, and the way
out. Refuses: a fact that the texts name and the caller did not give (`KeyError` at the raise, seen by a test).

Kinds decide what a loop does, nowhere else is that decided:
- TRANSIENT: try again with backoff (a server is away, a connection broke).
- STOP: somebody must decide or mend something; going on would lose or invent data.
- USAGE: the command line or the configuration is wrong.
- HELD: another process holds the name.
- CORRUPT: bytes from a peer do not follow their format.
- FAILED: what was done is not what was asked for, and nobody can decide otherwise.
A secret never enters a fact: connection errors are passed through `cdc.secret.redact` first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a loop does with an error; the value is the exit code where it ends the process."""

    TRANSIENT = "transient"
    STOP = "stop"
    USAGE = "usage"
    HELD = "held"
    CORRUPT = "corrupt"
    FAILED = "failed"


EXIT_CODES = {Kind.TRANSIENT: 1, Kind.STOP: 5, Kind.USAGE: 2, Kind.HELD: 4, Kind.CORRUPT: 1, Kind.FAILED: 1}


@dataclass(frozen=True, slots=True)
class Code:
    """One entry of the catalogue. `text` and `hint` are format strings over the facts."""

    name: str
    kind: Kind
    text: str
    hint: str


class CdcError(Exception):
    """An error of the catalogue with its facts. `source`, `table`, `position` say where, if known."""

    def __init__(
        self,
        code: Code,
        /,
        *,
        source: str | None = None,
        table: str | None = None,
        position: object | None = None,
        **facts: object,
    ) -> None:
        self.code = code
        self.source, self.table, self.position = source, table, position
        self.facts = facts
        where = {"source": source or "?", "table": table or "?", "position": position or "?"}
        self.text = code.text.format(**where, **facts)
        self.hint = code.hint.format(**where, **facts)
        super().__init__(self.text)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.code.kind]

    @property
    def transient(self) -> bool:
        return self.code.kind is Kind.TRANSIENT

    def __str__(self) -> str:
        places = (("source", self.source), ("table", self.table), ("position", self.position))
        where = ", ".join(f"{name} {value}" for name, value in places if value is not None)
        head = f"{self.code.name}{f' ({where})' if where else ''}: {self.text}"
        return f"{head}\n  what to do: {self.hint}" if self.hint else head


CATALOGUE: dict[str, Code] = {}


def _code(name: str, kind: Kind, text: str, hint: str) -> Code:
    if name in CATALOGUE:
        raise ValueError(f"two codes named {name}")
    return CATALOGUE.setdefault(name, Code(name, kind, text, hint))


# -- bytes from a peer ------------------------------------------------------------------------------------------
CORRUPT_WIRE = _code(
    "CORRUPT_WIRE",
    Kind.CORRUPT,
    "{what} at byte {offset}: {problem}",
    "the server sent bytes that its protocol does not allow; keep the log and report it with the server's version",
)
CORRUPT_LOG = _code(
    "CORRUPT_LOG",
    Kind.STOP,
    "the record at offset {offset} of {topic} cannot be read: {problem}",
    "a newer version wrote it, or something else writes to this topic: upgrade this process, or keep other "
    "producers away by an ACL",
)
CORRUPT_EVENT = _code(
    "CORRUPT_EVENT",
    Kind.STOP,
    "the event at {topic}[{partition}] offset {offset} cannot be read: {problem}",
    "something else writes to this topic, or a newer version did: keep other producers away by an ACL, or upgrade; "
    "where the record is Avro, perhaps the registry is not the one that gave its ids: see url in [registry]",
)

# -- source: start ----------------------------------------------------------------------------------------------
SOURCE_UNREACHABLE = _code(
    "SOURCE_UNREACHABLE",
    Kind.TRANSIENT,
    "the source database does not answer: {problem}",
    "check the address, the network and whom the server lets in (pg_hba.conf, the account's host); the process keeps "
    "trying",
)
SOURCE_AUTH = _code(
    "SOURCE_AUTH",
    Kind.STOP,
    "the source database refuses the login of {user}: {problem}",
    "set the password in the variable or file that cdc.toml names for [source.{source}]; cdc setup makes the role",
)
SOURCE_TLS = _code("SOURCE_TLS", Kind.STOP, "no trusted connection to the source database: {problem}", "{fix}")
SOURCE_PREREQUISITE = _code("SOURCE_PREREQUISITE", Kind.STOP, "{problem}", "{fix}")
SOURCE_HELD = _code(
    "SOURCE_HELD",
    Kind.HELD,
    "another process holds source {source}: {holder}",
    "stop that one; source run and up stand by without --no-wait",
)
LOG_WITHOUT_SLOT = _code(
    "LOG_WITHOUT_SLOT",
    Kind.STOP,
    "the log goes on to {last}, but replication slot {slot} does not exist: changes after that are lost to the stream",
    "copy everything again with: cdc source run {source} --reopen copy-again",
)
SLOT_WITHOUT_LOG = _code(
    "SLOT_WITHOUT_LOG",
    Kind.STOP,
    "replication slot {slot} exists (confirmed at {confirmed}), but topic {topic} holds no record of it",
    "the topic was deleted, topic_prefix was changed, or the slot belongs to somebody else. Copy everything again: "
    "cdc source run {source} --reopen copy-again; or go on from the slot's position: cdc source run {source} "
    "--reopen adopt",
)
LOG_TRUNCATED = _code(
    "LOG_TRUNCATED",
    Kind.STOP,
    "topic {topic} begins at offset {begins} with no START before its ENDs: retention took the beginning of the run",
    "set retention.ms=-1 and retention.bytes=-1 on it, then copy everything again: cdc source run {source} --reopen "
    "copy-again",
)
SLOT_AHEAD = _code(
    "SLOT_AHEAD",
    Kind.STOP,
    "replication slot {slot} is confirmed at {confirmed}, beyond the log's last END at {last}: what lies between is "
    "lost. Either somebody moved or re-created the slot, or {topic} lost its tail",
    "copy everything again: cdc source run {source} --reopen copy-again; or accept the gap, which readers then stop "
    "at: cdc source run {source} --reopen adopt",
)
SLOT_LOST = _code(
    "SLOT_LOST",
    Kind.STOP,
    "the server invalidated replication slot {slot} ({reason}): the log it needs is gone",
    "copy everything again: cdc source run {source} --reopen copy-again; raise max_slot_wal_keep_size before that",
)
SLOT_FOREIGN = _code(
    "SLOT_FOREIGN",
    Kind.STOP,
    "replication slot {slot} {problem}",
    'name another slot in [source.{source}] (slot = "…"), or drop this one: '
    "SELECT pg_drop_replication_slot('{slot}')",
)
SOURCE_IDENTITY = _code(
    "SOURCE_IDENTITY",
    Kind.STOP,
    "the log was written from {before}, this server is {now}",
    "point [source.{source}] at the right server; for a new one choose another section name, or copy everything "
    "again: cdc source run {source} --reopen copy-again",
)
SOURCE_FORK = _code(
    "SOURCE_FORK",
    Kind.STOP,
    "the log reaches {last}, but this server left timeline {timeline} at {switch}: the transactions between exist "
    "only downstream",
    "a standby was promoted that had not received them. Copy everything again: cdc source run {source} --reopen "
    "copy-again",
)
LOG_PURGED = _code(
    "LOG_PURGED",
    Kind.STOP,
    "the server has removed parts of its binary log that were not read yet: {problem}",
    "copy everything again: cdc source run {source} --reopen copy-again; raise binlog_expire_logs_seconds before that",
)
HISTORY_FORKED = _code(
    "HISTORY_FORKED",
    Kind.STOP,
    "the log holds transactions that this server has never executed: {missing}; they exist only downstream",
    "another server took over that had not received them, or this one lost them in a crash. Copy everything again: "
    "cdc source run {source} --reopen copy-again",
)
NOT_ADOPTABLE = _code(
    "NOT_ADOPTABLE",
    Kind.USAGE,
    "there is nothing to adopt: this server keeps no position for its readers",
    "copy everything again: cdc source run {source} --reopen copy-again",
)
TABLE_CASCADES = _code(
    "TABLE_CASCADES",
    Kind.STOP,
    "foreign key {key} of table {table} is ON {actions}: MySQL changes rows by it that are not in its log",
    "leave the table out (exclude in [source.{source}]), or make the key RESTRICT and let the application delete",
)
TABLE_NOT_TRANSACTIONAL = _code(
    "TABLE_NOT_TRANSACTIONAL",
    Kind.STOP,
    "table {table} has engine {engine}: a ROLLBACK leaves its rows changed",
    "ALTER TABLE {table} ENGINE = InnoDB, or leave it out: exclude in [source.{source}]",
)
TABLE_VERSIONED = _code(
    "TABLE_VERSIONED",
    Kind.STOP,
    "table {table} is system-versioned: the log has the history of its rows among them",
    "ALTER TABLE {table} DROP SYSTEM VERSIONING, or leave it out: exclude in [source.{source}]",
)
PUBLICATION_MISSING = _code(
    "PUBLICATION_MISSING",
    Kind.STOP,
    "publication {publication} does not exist",
    "create it with: cdc setup {source}",
)
PUBLICATION_CHANGED = _code(
    "PUBLICATION_CHANGED",
    Kind.STOP,
    "publication {publication} is not what the log was written under ({change}): changes of these tables may be "
    "missing between {last} and now",
    "copy everything again: cdc source run {source} --reopen copy-again; or accept the gap: cdc source run {source} "
    "--reopen adopt",
)
TABLE_WITHOUT_IDENTITY = _code(
    "TABLE_WITHOUT_IDENTITY",
    Kind.STOP,
    "table {table} has no primary key and replica identity {identity}: its updates and deletes cannot be captured",
    'ALTER TABLE {table} REPLICA IDENTITY FULL; or leave it out: exclude = ["{table}"] in [source.{source}]',
)
TABLE_NOT_PUBLISHED = _code(
    "TABLE_NOT_PUBLISHED",
    Kind.STOP,
    "tables = … in [source.{source}] asks for {table}, but publication {publication} does not hold it: its changes "
    "would be missing",
    'cdc setup {source} adds it; or leave it out: exclude = ["{table}"] in [source.{source}]',
)
TABLE_PARTITIONED = _code(
    "TABLE_PARTITIONED",
    Kind.STOP,
    "table {table} is partitioned: partitions that are dropped, truncated or attached change its rows without a word "
    "in the log",
    'leave it out: exclude = ["{table}"] in [source.{source}]',
)
TABLE_NARROWED = _code(
    "TABLE_NARROWED",
    Kind.STOP,
    "publication {publication} publishes {table} by a row filter or a column list",
    'ALTER PUBLICATION {publication} without them; or leave it out: exclude = ["{table}"] in [source.{source}]',
)
TYPE_UNSUPPORTED = _code(
    "TYPE_UNSUPPORTED",
    Kind.STOP,
    "column {column} of {table} has type {type}, which is not carried yet",
    'leave the table out: exclude = ["{table}"] in [source.{source}]; docs/EVENTS.md lists the types',
)
COPY_TORN = _code(
    "COPY_TORN",
    Kind.TRANSIENT,
    "table {table} was rewritten while the copy began",
    "nothing: the copy begins again by itself",
)
COPY_LOCKED = _code(
    "COPY_LOCKED",
    Kind.TRANSIENT,
    "the lock under which a copy begins was not to be had within {seconds} s: a long statement or transaction is in "
    "its way",
    "nothing: the copy begins again by itself; SHOW PROCESSLIST on the server shows what it waits for",
)
NOTHING_TO_CAPTURE = _code(
    "NOTHING_TO_CAPTURE",
    Kind.STOP,
    "no table in publication {publication} is wanted by tables = {patterns}",
    "correct tables and exclude in [source.{source}], then: cdc setup {source}",
)
TOPIC_NAMES_COLLIDE = _code(
    "TOPIC_NAMES_COLLIDE",
    Kind.STOP,
    "{first} and {second} would share topic {topic}",
    "leave one out by exclude in [source.{source}], or rename it",
)

COLUMN_NAMES_COLLIDE = _code(
    "COLUMN_NAMES_COLLIDE",
    Kind.STOP,
    "columns {first} and {second} of {table} would both be {name} in Avro",
    'rename one, leave the table out by exclude, or set format = "json-with-schema", which keeps names as they are',
)

# -- source: running --------------------------------------------------------------------------------------------
VALUE_UNREPRESENTABLE = _code(
    "VALUE_UNREPRESENTABLE",
    Kind.STOP,
    "column {column} of {table} at {position} holds {problem}",
    "the event format has no form for it: correct the value at the source and copy again, or leave the table out by "
    "exclude in [source.{source}]",
)
ROW_IMAGE_PARTIAL = _code(
    "ROW_IMAGE_PARTIAL",
    Kind.STOP,
    "{op} of {table} at {position} does not carry column {column}: the session that wrote it had binlog_row_image "
    "other than FULL",
    "SET GLOBAL binlog_row_image = FULL, and no session may set it otherwise; then copy again: cdc source run {source} "
    "--reopen copy-again",
)
VALUE_TOO_LARGE = _code(
    "VALUE_TOO_LARGE",
    Kind.STOP,
    "an event of {table} is {size} bytes, above the {limit} bytes that topic {topic} accepts",
    "raise max.message.bytes of the topic (kafka-configs --alter) and max_record in [source.{source}], then start "
    "again: the transaction is sent again whole",
)
SCHEMA_CHANGE_UNSUPPORTED = _code(
    "SCHEMA_CHANGE_UNSUPPORTED",
    Kind.STOP,
    "table {table} changed at {position} in a way that is not followed yet: {change}",
    "copy everything again in the new form: cdc source run {source} --reopen copy-again",
)
RELATION_MISMATCH = _code(
    "RELATION_MISMATCH",
    Kind.STOP,
    "table {table} changed before {position} and the stream did not say how: {change}",
    "copy again: cdc source run {source} --reopen copy-again. {carriers}",
)
STATEMENT_NOT_ROWS = _code(
    "STATEMENT_NOT_ROWS",
    Kind.STOP,
    "at {position} rows of {table} were changed by a statement, and the log does not hold them: {statement}",
    "see that every session has binlog_format = ROW, then copy again: cdc source run {source} --reopen copy-again",
)
EVENT_UNSUPPORTED = _code(
    "EVENT_UNSUPPORTED",
    Kind.STOP,
    "event {event} of the binary log at {position} cannot be carried: {problem}",
    "change what makes the server write it (cdc check {source} names it where it is a setting), then copy again: "
    "cdc source run {source} --reopen copy-again",
)
STREAM_OUT_OF_ORDER = _code(
    "STREAM_OUT_OF_ORDER",
    Kind.CORRUPT,
    "{what}",
    "the server's stream is not in the order its protocol promises; report it with the server's version",
)
SUPERSEDED = _code(
    "SUPERSEDED",
    Kind.HELD,
    "a later run {other} of source {source} has started; this one ({run}) stops",
    "nothing: its unfinished work is ignored by every reader",
)
KAFKA_STALLED = _code(
    "KAFKA_STALLED",
    Kind.TRANSIENT,
    "Kafka acknowledged nothing for {seconds} s",
    "the replication connection is closed so that the database can shut down; the process keeps trying",
)

TYPES_CHANGED = _code(
    "TYPES_CHANGED",
    Kind.STOP,
    'the log of {table} was written with types = "{logged}", the configuration says "{configured}"',
    "set it back in [source.{source}], or copy everything again in the new form: cdc source run {source} --reopen "
    "copy-again",
)

# -- the schema registry ----------------------------------------------------------------------------------------
REGISTRY_MISSING = _code(
    "REGISTRY_MISSING",
    Kind.USAGE,
    "{topic} holds Avro, and the configuration names no schema registry",
    "name it: url in [registry]",
)
REGISTRY_UNREACHABLE = _code(
    "REGISTRY_UNREACHABLE",
    Kind.TRANSIENT,
    "the schema registry at {url} does not answer: {problem}",
    "check url in [registry] and the network; the process keeps trying",
)
REGISTRY_TLS = _code(
    "REGISTRY_TLS",
    Kind.STOP,
    "no trusted connection to the schema registry at {url}: {problem}",
    "check url, ca, certificate and key in [registry]",
)
REGISTRY_LOGIN = _code(
    "REGISTRY_LOGIN",
    Kind.STOP,
    "the schema registry at {url} does not let {user} have {what}: {problem}",
    "check user and password in [registry]; a source registers schemas and sets the compatibility of its subjects, "
    "readers read schemas by their id",
)
REGISTRY_LOST = _code(
    "REGISTRY_LOST",
    Kind.STOP,
    "the schema registry at {url} has no schema of id {id}, under which a record was written",
    "bring its schemas back under their ids (its storage, a backup of it): without them nobody can read these records; "
    "or copy everything again: cdc source run NAME --reopen copy-again",
)
REGISTRY_REFUSED = _code(
    "REGISTRY_REFUSED",
    Kind.STOP,
    "the schema registry at {url} refuses {what}: {problem}",
    "check url in [registry], which ends where Confluent's API begins (/apis/ccompat/v7 at Apicurio's); see in the "
    "registry what stands under that subject",
)

# -- Kafka ------------------------------------------------------------------------------------------------------
KAFKA_UNREACHABLE = _code(
    "KAFKA_UNREACHABLE",
    Kind.TRANSIENT,
    "Kafka at {bootstrap} does not answer: {problem}",
    "check bootstrap_servers in [kafka] and the network; the process keeps trying",
)
KAFKA_REFUSED = _code(
    "KAFKA_REFUSED",
    Kind.STOP,
    "Kafka refuses: {problem}",
    "check what the brokers allow (policies, broker settings), and [kafka.options]",
)
KAFKA_TLS = _code(
    "KAFKA_TLS",
    Kind.STOP,
    "no trusted connection to Kafka at {bootstrap}: {problem}",
    "{fix}",
)
KAFKA_LOGIN = _code(
    "KAFKA_LOGIN",
    Kind.STOP,
    "Kafka at {bootstrap} refuses the login: {problem}",
    "correct security.protocol, sasl.mechanism, sasl.username and sasl.password in [kafka.options]",
)
KAFKA_DENIED = _code(
    "KAFKA_DENIED",
    Kind.STOP,
    "Kafka does not let this client {operation} {resource}",
    "kafka-acls.sh --bootstrap-server {bootstrap} --add --allow-principal User:NAME --operation {operation} {option}; "
    "docs/SECURITY.md lists what each role needs",
)
KAFKA_OPTIONS = _code(
    "KAFKA_OPTIONS",
    Kind.USAGE,
    "[kafka.options] cannot be used: {problem}",
    "they are librdkafka's properties under their own names, for example security.protocol, ssl.ca.location, "
    "sasl.mechanism; files must be readable for this process",
)
DELIVERY_FAILED = _code(
    "DELIVERY_FAILED",
    Kind.TRANSIENT,
    "a record for {topic} was not delivered: {problem}",
    "the run ends here and a new one sends the transaction again",
)
TOPIC_MISSING = _code(
    "TOPIC_MISSING",
    Kind.STOP,
    "topic {topic} does not exist any more",
    "it was deleted: its records are lost to readers that had not read them. Copy everything again: cdc source run "
    "{source} --reopen copy-again",
)
TOPIC_REPLACED = _code(
    "TOPIC_REPLACED",
    Kind.STOP,
    "topic {topic} was deleted and made again (id {now}, was {before})",
    "its records are lost to readers that had not read them. Copy everything again: cdc source run {source} "
    "--reopen copy-again",
)
TOPIC_COMPACTED = _code(
    "TOPIC_COMPACTED",
    Kind.STOP,
    "topic {topic} has cleanup.policy={policy}: compaction removes events that the log counts",
    "kafka-configs --alter --entity-type topics --entity-name {topic} --add-config cleanup.policy=delete",
)
TOPIC_PARTITIONS = _code(
    "TOPIC_PARTITIONS",
    Kind.STOP,
    "topic {topic} has {now} partitions, {wanted} expected",
    "the log and shape topics have exactly one partition, and a row topic never changes its number: order per key "
    "would break. Make the topic anew and copy again: cdc source run {source} --reopen copy-again",
)

# -- sink -------------------------------------------------------------------------------------------------------
TARGET_UNREACHABLE = _code(
    "TARGET_UNREACHABLE",
    Kind.TRANSIENT,
    "the target database does not answer: {problem}",
    "check the address, the network and whom the server lets in (pg_hba.conf, the account's host); a sink keeps "
    "trying, a restore has left nothing and is run again",
)
TARGET_AUTH = _code(
    "TARGET_AUTH",
    Kind.STOP,
    "the target database refuses the login of {user}: {problem}",
    "set the password: of a sink in the variable or file that cdc.toml names for [sink.{sink}], of a restore in "
    "PGPASSWORD or ~/.pgpass, MYSQL_PWD or ~/.my.cnf",
)
TARGET_TLS = _code("TARGET_TLS", Kind.STOP, "no trusted connection to the target database: {problem}", "{fix}")
TARGET_REFUSED = _code(
    "TARGET_REFUSED",
    Kind.STOP,
    "the target refuses a statement: {problem}",
    "grant the right that is missing (for a sink cdc setup {sink} --dry-run prints them all), or mend what it names; "
    "the database of a URL has to be there (createdb, CREATE DATABASE); a sink's on MySQL cdc setup makes",
)
SINK_HELD = _code(
    "SINK_HELD",
    Kind.HELD,
    "another process holds sink {sink}: {holder}",
    "stop that one; sink run and up stand by without --no-wait",
)
PROGRESS_TAKEN = _code(
    "PROGRESS_TAKEN",
    Kind.STOP,
    "the progress row of {sink} is at (epoch {epoch}, txn {txn_seq}) of writer {writer}; this process stood at "
    "{expected}",
    "something else wrote this row of cdc_progress: see who, then start again",
)
PROGRESS_UNKNOWN = _code(
    "PROGRESS_UNKNOWN",
    Kind.STOP,
    "the log has no END (epoch {epoch}, txn {txn_seq}, run {run}) at offset {offset}, where sink {sink} stopped: "
    "{problem}",
    "the log lost records that were applied, or was made anew. Copy again: cdc source run {source} --reopen "
    "copy-again; where a Debezium connector writes it, let it write the tables anew under another topic.prefix",
)
PROGRESS_OF_ANOTHER = _code(
    "PROGRESS_OF_ANOTHER",
    Kind.STOP,
    "sink {sink} follows source {source} by its configuration, and source {found} by its progress in the target",
    'put source = "{found}" back in [sink.{sink}]; or, where it is to follow {source} from now on, give the section '
    'another name, and existing_rows = "truncate": its tables are then filled anew by the base copy of {source}',
)
LOG_LOST = _code(
    "LOG_LOST",
    Kind.STOP,
    "{topic}[{partition}] begins at offset {begins}, this reader needs {needs}: retention removed what it had not read",
    "raise retention.ms of the topic, then copy again: cdc source run {source} --reopen copy-again",
)
EVENTS_LOST = _code(
    "EVENTS_LOST",
    Kind.STOP,
    "transaction {txn_seq} of {source} names offsets {first}..{last} of {topic}[{partition}], but {problem}",
    "records that were acknowledged are gone (retention, a deleted topic, an unclean election). Copy again: cdc "
    "source run {source} --reopen copy-again",
)
DEBEZIUM_RECORD = _code(
    "DEBEZIUM_RECORD",
    Kind.STOP,
    "the record at {topic}[{partition}] offset {offset} cannot be followed: {problem}",
    "change that at the connector, and let it write the tables anew under another topic.prefix; docs/DEBEZIUM.md has "
    "the settings that are needed",
)
DEBEZIUM_INCOMPLETE = _code(
    "DEBEZIUM_INCOMPLETE",
    Kind.TRANSIENT,
    "the END of transaction {transaction} counts {counted} changes, and {found} are there",
    "a connector that was killed sends the rest when it runs again; the process keeps trying. If it runs, rows are "
    "gone (retention), or lie in topics that are not named <prefix>.<schema>.<table> (a transform that routes): let it "
    "write the tables anew under another topic.prefix",
)
DEBEZIUM_GONE = _code(
    "DEBEZIUM_GONE",
    Kind.STOP,
    "{topic}[{partition}] begins at offset {begins}, and {needs} is needed",
    "what was there is gone by retention. Let the connector copy the tables anew under another topic.prefix, and keep "
    "its topics for longer than a sink may be away",
)
DEBEZIUM_ENDED = _code(
    "DEBEZIUM_ENDED",
    Kind.STOP,
    "from offset {offset} of {topic} on, cdc's own source writes these topics",
    "make its section the sink's source, in place of [debezium.…]; the replica is brought anew from its base copy: cdc "
    'source run --reopen copy-again, and existing_rows = "truncate" at the sink',
)
LOG_GAP = _code(
    "LOG_GAP",
    Kind.STOP,
    "the log goes from (epoch {epoch}, txn {last}, {position}) to txn {found} after {found_prev}",
    "transactions are missing from the log. Copy again: cdc source run {source} --reopen copy-again",
)
EPOCH_GAP = _code(
    "EPOCH_GAP",
    Kind.STOP,
    "epoch {epoch} of {source} opened at {opened} ({reason}), beyond {position} where this reader stands: what lies "
    "between was never published",
    "copy everything again: cdc source run {source} --reopen copy-again",
)
SCHEMA_UNKNOWN = _code(
    "SCHEMA_UNKNOWN",
    Kind.STOP,
    "no record of {topic} describes schema {schema_id} of {table}",
    "the shape topic lost it (retention, deletion). Copy everything again: cdc source run {source} --reopen copy-again",
)
TARGET_MISMATCH = _code(
    "TARGET_MISMATCH",
    Kind.STOP,
    "tables of the target do not fit:\n{problems}",
    "alter or drop them; the sink makes tables that are missing by itself. Where the source was altered since, the "
    "log still holds the earlier shape: cdc source run NAME --reopen copy-again brings the present one",
)
TARGET_TRIGGERS = _code(
    "TARGET_TRIGGERS",
    Kind.STOP,
    "triggers on tables of the target would act again on rows that carry their effect already: {triggers}",
    "keep what SHOW CREATE TRIGGER says for the day on which the replica takes over, then: {statements}",
)
TARGET_NOT_EMPTY = _code(
    "TARGET_NOT_EMPTY",
    Kind.STOP,
    "target table {table} has rows that no sink brought",
    'empty it, or allow it in [sink.{sink}]: existing_rows = "truncate"',
)
ROW_DIVERGED = _code(
    "ROW_DIVERGED",
    Kind.STOP,
    "{op} of {table} {key} in transaction {txn_seq} met {found} rows on the target, 1 expected",
    "somebody changed the target behind the sink. Put the row back as the source has it, or copy again: cdc source "
    "run {source} --reopen copy-again; where a Debezium connector writes the topics, let it write the tables anew "
    "under another topic.prefix",
)
APPLY_FAILED = _code(
    "APPLY_FAILED",
    Kind.STOP,
    "transaction {txn_seq} cannot be applied, at {op} of {table} {key}: {problem}",
    "where a constraint or a column is in the way that the target has and the source has not, mend the target and "
    "start again; where it is a value that the target cannot hold, change it at the source, or leave the table out by "
    "exclude in [source.{source}], and copy again: cdc source run {source} --reopen copy-again; where a Debezium "
    "connector writes the topics, let it write the tables anew under another topic.prefix",
)

# -- configuration and commands ---------------------------------------------------------------------------------
CONFIG_MISSING = _code(
    "CONFIG_MISSING",
    Kind.USAGE,
    "no configuration found (looked at {places})",
    "write one with: cdc init SOURCE-URL --kafka HOST:PORT --sink NAME=URL",
)
CONFIG_INVALID = _code(
    "CONFIG_INVALID", Kind.USAGE, "{file}: {problem}", "correct it; cdc init writes a commented example"
)
CONFIG_UNKNOWN_KEY = _code("CONFIG_UNKNOWN_KEY", Kind.USAGE, "{file}: [{section}] has no key {key}", "{nearest}")
CONFIG_SECRET = _code(
    "CONFIG_SECRET",
    Kind.USAGE,
    "{file}: [{section}] {key}: {problem}",
    "set the environment variable or the file that it names",
)
PASSWORD_IN_URL = _code(
    "PASSWORD_IN_URL",
    Kind.USAGE,
    "the URL of {what} holds a password",
    'leave it out of the URL, where process lists and logs show it; give it by password = "${{NAME}}" or '
    '"file:/path", or by ~/.pgpass or ~/.my.cnf',
)
SECTION_UNKNOWN = _code("SECTION_UNKNOWN", Kind.USAGE, "no [{kind}.{name}] in {file}", "sections there: {known}")
FILE_EXISTS = _code(
    "FILE_EXISTS",
    Kind.USAGE,
    "{file} exists already",
    "it is left as it is: edit it, or write another one by --config PATH",
)
ARGUMENT_INVALID = _code(
    "ARGUMENT_INVALID",
    Kind.USAGE,
    "{problem}",
    "{fix}",
)
SETUP_REFUSED = _code(
    "SETUP_REFUSED",
    Kind.STOP,
    "[{section}] {problem}",
    "mend what it names; the database of a postgresql:// URL has to be there (createdb), a sink's on MySQL is made. "
    "Where a right is missing, run it as a role that may, by --admin-url postgresql://ADMIN@HOST/DATABASE or "
    "mysql://ADMIN@HOST (its password by PGPASSWORD or ~/.pgpass, MYSQL_PWD or ~/.my.cnf), or hand the SQL of "
    "--dry-run to somebody who may",
)
VERIFY_BEHIND = _code(
    "VERIFY_BEHIND",
    Kind.TRANSIENT,
    "sink {sink} did not come up to {wanted} within {seconds} s; it stands at {stands}",
    "see with cdc status whether source and sink run and how far they lag, then compare again with a longer --wait",
)

# -- archive ----------------------------------------------------------------------------------------------------
STORE_URL = _code(
    "STORE_URL",
    Kind.USAGE,
    "{url!r} is no place for an archive",
    "s3://BUCKET/PREFIX, with ?sse=AES256 or ?sse=aws:kms&kms-key=ID, or file:///DIRECTORY; credentials and endpoint "
    "of S3 from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL_S3, ~/.aws",
)
STORE_UNREACHABLE = _code(
    "STORE_UNREACHABLE",
    Kind.TRANSIENT,
    "the object store {url} does not answer ({name}): {problem}",
    "check the network and AWS_ENDPOINT_URL_S3; a running process keeps trying and loses nothing meanwhile",
)
STORE_REFUSED = _code(
    "STORE_REFUSED",
    Kind.STOP,
    "the object store {url} refuses {name}: {problem}",
    "check the credentials, the bucket's name and region, and what this identity may do there",
)
STORE_TLS = _code(
    "STORE_TLS",
    Kind.STOP,
    "no trusted connection to the object store {url} ({name}): {problem}",
    "AWS_CA_BUNDLE=FILE names the authority that signed the store's certificate, which must name the host in "
    "AWS_ENDPOINT_URL_S3 and not be expired",
)
STORE_UNENCRYPTED = _code(
    "STORE_UNENCRYPTED",
    Kind.STOP,
    "the object store {url} was asked to encrypt {name} by sse={wanted} and says it did by {found}",
    "mend the store, or leave sse out of the archive's url: its objects are encrypted by encryption_key in any case",
)
STORE_UNFENCED = _code(
    "STORE_UNFENCED",
    Kind.STOP,
    "the object store {url} wrote over an object although it was asked not to (If-None-Match): two archivers could "
    "destroy each other's work there",
    "use a store that honours conditional writes",
)
ARCHIVE_MISSING = _code(
    "ARCHIVE_MISSING",
    Kind.STOP,
    "there is no archive at {url}: archive.json is missing",
    "an archive's address ends with its source's name, s3://BUCKET/PREFIX/SOURCE; cdc archive run makes it",
)
ARCHIVE_OF_ANOTHER = _code(
    "ARCHIVE_OF_ANOTHER",
    Kind.STOP,
    "the archive at {url} belongs to source {found}, not to {source}",
    "give [archive.…] another url",
)
ARCHIVE_HELD = _code(
    "ARCHIVE_HELD",
    Kind.HELD,
    "another archiver writes to {url}: it has written {name}",
    "run one archiver for each source and url; this one stops",
)
ARCHIVE_KEY_MISSING = _code(
    "ARCHIVE_KEY_MISSING",
    Kind.USAGE,
    "the archive at {url} is encrypted, and no key is given",
    "set CDC_ARCHIVE_KEY, or --key-file; in cdc.toml encryption_key",
)
ARCHIVE_KEY_UNUSED = _code(
    "ARCHIVE_KEY_UNUSED",
    Kind.STOP,
    "a key is given, but the archive at {url} is not encrypted",
    'write out encryption_key = "none" if that is meant, or give the archive another url; a restore: without a key',
)
ARCHIVE_KEY_WRONG = _code(
    "ARCHIVE_KEY_WRONG",
    Kind.STOP,
    "the key {given} is not the archive's, which is {wanted}",
    "find the key with that id; without it nothing of the archive can be read",
)
ARCHIVE_KEY_INVALID = _code("ARCHIVE_KEY_INVALID", Kind.USAGE, "the archive's key: {problem}", "it holds nothing else")
ARCHIVE_UNENCRYPTED = _code(
    "ARCHIVE_UNENCRYPTED",
    Kind.STOP,
    "what was stored encrypted at {url} can be read without the key",
    "something between here and the store decrypts or replaces it; nothing more is written",
)
ARCHIVE_CORRUPT = _code(
    "ARCHIVE_CORRUPT",
    Kind.STOP,
    "{name}: {problem}",
    "bring the object back (an older version of it, a copy of the bucket); cdc archive verify names all that is "
    "damaged, cdc archive list what can still be restored",
)
CHAIN_BROKEN = _code(
    "CHAIN_BROKEN",
    Kind.STOP,
    "the chain breaks between {before} and {after}: {problem}",
    "bring the missing manifests back; cdc archive list shows what can still be restored",
)
SCRATCH_UNENCRYPTED = _code(
    "SCRATCH_UNENCRYPTED",
    Kind.STOP,
    "the scratch file of a restore cannot be encrypted: {problem}",
    "install the package as its lock file says (duckdb with duckdb-extension-httpfs of the same version)",
)
BEFORE_ARCHIVE = _code(
    "BEFORE_ARCHIVE",
    Kind.STOP,
    "the archive cannot go back to {moment}: {begins}",
    "cdc-restore --archive URL --list shows the moments that can be restored",
)
CASCADE_UNFOLDED = _code(
    "CASCADE_UNFOLDED",
    Kind.STOP,
    "what foreign key {key} did to the rows of {table} below the log cannot be told: {problem}",
    "restore to the moment of a base (--list), leave the table out by naming others with --table, or take a replica's "
    "rows: sinks carried out what the key did",
)
BEYOND_ARCHIVE = _code(
    "BEYOND_ARCHIVE",
    Kind.STOP,
    "{moment} lies beyond the archive's end, {end}",
    "wait until the archiver is there (cdc status), or ask for an earlier moment; --list shows the end",
)
CUT_AMBIGUOUS = _code(
    "CUT_AMBIGUOUS",
    Kind.STOP,
    "the source's clock stepped back near {moment}: the first transaction after it follows transaction {first_after}, "
    "but {strays} later ones, up to {last_before}, say they were before",
    "--cut first-after restores up to transaction {first_after}, --cut last-before up to {last_before}",
)
BASE_OVERTAKEN = _code(
    "BASE_OVERTAKEN",
    Kind.TRANSIENT,
    "{problem} while a base was taken",
    "nothing: the base begins again by itself",
)
REPLICA_UNFIT = _code(
    "REPLICA_UNFIT",
    Kind.STOP,
    "no base can be read from sink {sink}: {problem}",
    'mend that (cdc status, cdc check {sink}), or take bases from the source: base_from = "source"',
)
ANCHOR_OF_ANOTHER = _code(
    "ANCHOR_OF_ANOTHER",
    Kind.STOP,
    "database {found} is not the one that the archive was made from, which is {wanted}",
    "name the source itself: what another database holds neither proves nor refutes anything",
)
BASE_MISCOUNTED = _code(
    "BASE_MISCOUNTED",
    Kind.STOP,
    "{rows} rows of table {table} were written to the base, but its digest under the same snapshot counts {counted}",
    "no base was made; look for a damaged index or page (pg_amcheck) and for failing memory, here and on the server",
)
TABLE_WITHOUT_COLUMNS = _code(
    "TABLE_WITHOUT_COLUMNS",
    Kind.STOP,
    "table {table} has no column that a base could hold",
    "give it a column, or leave it out by exclude in [source.{source}]",
)
ROW_TOO_LARGE = _code(
    "ROW_TOO_LARGE",
    Kind.STOP,
    "a row of {table} is longer than the server can write in one line: {problem}",
    "a row may be 1 GiB as text (bytea counts twice): shorten it, or leave the table out by exclude in "
    "[source.{source}]",
)
PG_DUMP_MISSING = _code(
    "PG_DUMP_MISSING",
    Kind.STOP,
    "{problem}; a base holds the schema as pg_dump of version {version} or later writes it",
    "install the package postgresql-client-{version}, or name the program by PG_DUMP=/path/to/pg_dump",
)
PG_DUMP_FAILED = _code(
    "PG_DUMP_FAILED",
    Kind.STOP,
    "{program} failed: {problem}",
    "where it may not read a table: GRANT pg_read_all_data to the role of [source.{source}], as cdc setup does for a "
    "source with an archive; then cdc archive backup NAME",
)
RESTORE_EXISTS = _code(
    "RESTORE_EXISTS",
    Kind.STOP,
    "{database} already has {tables}: a restore writes over nothing",
    "restore into {empty}, or one table beside the live one: --table … --as NAME or --schema NAME",
)
RESTORE_REFUSED = _code(
    "RESTORE_REFUSED",
    Kind.STOP,
    "the target refuses {kind} {object}: {problem}",
    "mend what it names (a right, room on its disk), or take a server of its version or later; nothing was changed",
)
RESTORE_FAILED = _code(
    "RESTORE_FAILED",
    Kind.FAILED,
    "table {table}: {problem}",
    "nothing was changed; mend what it names, and run the restore again",
)
RESTORE_UNDECIDED = _code(
    "RESTORE_UNDECIDED",
    Kind.TRANSIENT,
    "the connection broke while the restore was committed: {problem}",
    "run it again: either nothing of it is in {database}, or RESTORE_EXISTS says that all of it is, compared and whole",
)
TARGET_TOO_OLD = _code(
    "TARGET_TOO_OLD",
    Kind.STOP,
    "the target is Postgres {version}; a restore knows {oldest} and later",
    "restore into a later server",
)
RESTORE_UNRECORDED = _code(
    "RESTORE_UNRECORDED",
    Kind.USAGE,
    "no archive of {file} has a record of restore {id}",
    "the id is in the last line of cdc-restore; a store that may only be read keeps no record",
)
TABLE_COPYING = _code(
    "TABLE_COPYING",
    Kind.STOP,
    "table {table} was being copied at that moment: its rows there are not complete",
    "choose a later moment; --list shows from when",
)
TABLE_UNKNOWN = _code(
    "TABLE_UNKNOWN",
    Kind.USAGE,
    "the archive has no table {table} at that moment",
    "tables there: {known}; a name is SCHEMA.TABLE",
)
DELETE_UNKNOWN = _code(
    "DELETE_UNKNOWN",
    Kind.USAGE,
    "the archive knows of no transaction that removed {key} from {table}",
    "the key is its columns' text in key order, joined by commas: --before-delete public.orders:42; --list shows how "
    "far the archive reaches",
)

PASSING = tuple(code.name for code in CATALOGUE.values() if code.kind is Kind.TRANSIENT)
"""What a process waits for."""
