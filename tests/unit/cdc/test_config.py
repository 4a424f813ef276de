"""Configuration: what is read, what is refused and in which words, and that no secret shows."""

from pathlib import Path

import pytest

from cdc.config import Config, find, load, parse
from cdc.errors import CdcError
from cdc.kafka import FIXED_OPTIONS
from cdc.secret import redact
from cdc.sections import Source

FILE = Path("cdc.toml")
PLAIN = """
[kafka]
bootstrap_servers = "kafka1.internal:9092"

[source.shop]
url = "postgresql://cdc_reader@db1.internal/shop?sslmode=verify-full"
password = "${SHOP_PASSWORD}"
tables = ["public.*"]

[sink.eu]
source = "shop"
url = "postgresql://cdc_writer@pg-eu.internal/shop"
password = "${EU_PASSWORD}"
"""


def config(text: str = PLAIN) -> Config:
    return parse(text, FILE)


def with_line(section: str, line: str) -> str:
    head = f"[{section}]"
    return PLAIN.replace(head, f"{head}\n{line}") if head in PLAIN else f"{PLAIN}\n{head}\n{line}"


def refusal(text: str) -> CdcError:
    with pytest.raises(CdcError) as caught:
        config(text)
    assert caught.value.exit_code == 2
    return caught.value


def test_defaults_follow_the_section_name() -> None:
    source = config(PLAIN.replace("shop]", "shop-eu]").replace('"shop"', '"shop-eu"')).source("shop-eu")
    assert (source.slot, source.publication, source.topic_prefix) == ("cdc_shop_eu", "cdc_shop_eu", "shop-eu")
    assert (source.heartbeat_every, source.max_record, source.max_retained_wal) == (10.0, 8 * 2**20, None)
    assert source.partitions == 1


def test_durations_and_sizes_have_units() -> None:
    text = with_line("source.shop", 'heartbeat_every = "500ms"\nmax_retained_wal = "20GiB"')
    source = config(text).source("shop")
    assert (source.heartbeat_every, source.max_retained_wal) == (0.5, 20 * 2**30)
    assert config(with_line("kafka", 'retention = "2d"')).kafka.retention == 172800


@pytest.mark.parametrize(
    ("section", "line", "words"),
    [
        ("source.shop", 'heartbeat_every = "10 apples"', "units: ms, s, m, h, d"),
        ("source.shop", 'max_retained_wal = "20"', "'20' is not like \"20GiB\""),
        ("source.shop", 'heartbeat_every = "0s"', "[source.shop] heartbeat_every"),
        ("source.shop", 'format = "xml"', "'json', 'json-with-schema' or 'avro'"),
        ("source.shop", 'format = "avro"', '[source.shop] format = "avro" needs a [registry] with its url'),
        ("source.shop", 'types = "precise"', "'exact' or 'debezium'"),
        ("registry", 'url = "registry:8081"', "'registry:8081' is not like https://registry.internal:8081"),
        ("registry", 'url = "https://me:pw@registry:8081"', "user and password are keys of their own"),
        ("registry", 'url = "http://r"\nuser = "me"', "user and password belong together"),
        ("registry", 'url = "http://r"\nkey = "/k.pem"', "key is that of a certificate"),
        ("source.shop", 'snapshot = "only"', "snapshot: 'only' is not supported yet, only 'initial' or 'never'"),
        ("source.shop", 'begin_after = "a:1"', "a slot knows its own place"),
        ("source.m", 'url = "mysql://r@h/d"\ntables = ["d.*"]\nsnapshot = "never"', "begin_after"),
        ("source.m", 'url = "mysql://r@h/d"\ntables = ["d.*"]\nsnapshot = "never"\nbegin_after = "x"', "begin_after: "),
        ("source.m", 'url = "mysql://r@h/d"\ntables = ["d.*"]\nsnapshot = "never"\nbegin_after = ""', "is empty"),
        ("debezium.shop", 'topic_prefix = "x"', "[debezium.shop] and [source.shop] have one name"),
        ("source.shop", 'exclude = ["sessions"]', "'sessions' is not schema.table"),
        ("source.shop", 'slot = "Shop-1"', "[source.shop] slot"),
        ("source.shop", "partitions = 0", "[source.shop] partitions"),
        ("sink.eu", 'existing_rows = "merge"', "'merge' is not supported yet, only 'refuse' or 'truncate'"),
        ("kafka", "replication_factor = 0", "[kafka] replication_factor"),
        ("kafka", "options = 1", "[kafka] options: expected a table"),
    ],
)
def test_an_unsupported_value_is_refused_with_its_place(section: str, line: str, words: str) -> None:
    error = refusal(with_line(section, line))
    assert error.code.name == "CONFIG_INVALID"
    assert words in str(error)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PLAIN.replace("postgresql://cdc_reader", "oracle://cdc_reader"), "oracle:// is not supported"),
        (PLAIN.replace('source = "shop"', 'source = "shpo"'), "no [source.shpo]; did you mean shop?"),
        (PLAIN.replace('tables = ["public.*"]', ""), "[source.shop] tables: is missing"),
        (PLAIN.replace('tables = ["public.*"]', "tables = []"), "[source.shop] tables"),
        (PLAIN.replace("[source.shop]", "[source.Shop]"), "does not match [a-z][a-z0-9_-]*"),
        ("kafka = [", "not TOML"),
        ('[kafka]\nbootstrap_servers="k:1"\n[source]\nurl = "x"', "a source has a name: [source.NAME]"),
        (PLAIN + '[source.b]\ntopic_prefix="shop"\nurl="postgresql:///b"\ntables=["*.*"]', "prefix 'shop'"),
        (PLAIN + '[metrics]\nlisten = "9187"', "'9187' is not like \"127.0.0.1:9187\""),
        ("", "[kafka] : is missing"),
    ],
)
def test_a_file_that_does_not_hold_together_is_refused(text: str, words: str) -> None:
    error = refusal(text)
    assert error.code.name == "CONFIG_INVALID"
    assert words in str(error)


@pytest.mark.parametrize(
    ("text", "section", "key", "hint"),
    [
        (with_line("source.shop", 'tabels = ["a.b"]'), "source.shop", "tabels", "did you mean tables?"),
        (
            with_line("sink.eu", "zzz = 1"),
            "sink.eu",
            "zzz",
            "known there: source, url, password, existing_rows",
        ),
        (with_line("kafka", 'bootstrap = "k:1"'), "kafka", "bootstrap", "did you mean bootstrap_servers?"),
        (with_line("registry", 'usr = "x"'), "registry", "usr", "did you mean user?"),
        (with_line("debezium.old", 'prefix = "x"'), "debezium.old", "prefix", "did you mean topic_prefix?"),
        (with_line("debezium.old", 'name = "x"'), "debezium.old", "name", "known there: "),
        (with_line("source.shop", 'name = "x"'), "source.shop", "name", "known there: "),
        (
            PLAIN + '[archives.main]\nurl = "s3://x"',
            "top level",
            "archives",
            "did you mean archive?",
        ),
        ('file = "x"\n' + PLAIN, "top level", "file", "known there: "),
        (PLAIN + '[sinks.us]\nsource = "shop"', "top level", "sinks", "did you mean sink?"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known(text: str, section: str, key: str, hint: str) -> None:
    error = refusal(text)
    assert error.code.name == "CONFIG_UNKNOWN_KEY"
    assert f"[{section}] has no key {key}" in error.text
    assert hint in error.hint


@pytest.mark.parametrize("name", [*FIXED_OPTIONS, "request.required.acks", "delivery.timeout.ms"])
def test_a_kafka_option_that_would_break_a_promise_is_refused(name: str) -> None:
    error = refusal(PLAIN + f'[kafka.options]\n"{name}" = "1"')
    assert f"{name} cannot be set: the promises rest on" in error.text


@pytest.mark.parametrize("name", ["bootstrap.servers", "metadata.broker.list", "transactional.id", "group.id"])
def test_a_kafka_option_that_is_ours_is_refused(name: str) -> None:
    assert f"{name} cannot be set: " in refusal(PLAIN + f'[kafka.options]\n"{name}" = "1"').text


def test_kafka_options_may_be_dotted_and_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SASL", "s3cret")
    text = (
        PLAIN
        + """[kafka.options]
sasl.mechanism = "PLAIN"
"sasl.password" = "${SASL}"
"socket.timeout.ms" = 1000
"socket.keepalive.enable" = true
"""
    )
    assert config(text).kafka_options() == {
        "bootstrap.servers": "kafka1.internal:9092", "sasl.mechanism": "PLAIN", "sasl.password": "s3cret",
        "socket.timeout.ms": "1000", "socket.keepalive.enable": "true",
    }  # fmt: skip
    assert "s3cret" not in repr(config(text))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://cdc_reader:hunter2@db1/shop",
        "postgresql://cdc_reader@db1/shop?password=hunter2",
        "postgresql://cdc_reader:hunter2@db1:5432,db2:5432/shop",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    error = refusal(PLAIN.replace("postgresql://cdc_reader@db1.internal/shop?sslmode=verify-full", url))
    assert error.code.name == "PASSWORD_IN_URL"
    assert "[source.shop]" in error.text
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("key", ["password = ", '[kafka.options]\n"sasl.password" = '])
def test_a_secret_in_plain_text_is_refused_and_not_repeated(key: str) -> None:
    plain = PLAIN.replace('password = "${EU_PASSWORD}"', f'{key}"hunter2"')
    error = refusal(plain)
    assert "a secret is not written here" in error.text
    assert "hunter2" not in str(error)


def test_only_the_secrets_asked_for_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EU_PASSWORD", raising=False)
    monkeypatch.setenv("SHOP_PASSWORD", "s3cret-shop")
    loaded = config()
    assert loaded.source("shop").server().password == "s3cret-shop"
    with pytest.raises(CdcError) as caught:
        loaded.sink("eu").server()
    assert caught.value.code.name == "CONFIG_SECRET"
    assert "[sink.eu] password: environment variable EU_PASSWORD is not set" in caught.value.text
    assert caught.value.exit_code == 2


def test_a_secret_can_stand_in_a_file(tmp_path: Path) -> None:
    place = tmp_path / "password"
    text = PLAIN.replace("${SHOP_PASSWORD}", f"file:{place}")
    source = config(text).source("shop")
    with pytest.raises(CdcError, match="cannot be read: No such file"):
        source.server()
    place.write_bytes(b"\xff")
    with pytest.raises(CdcError, match="not text in UTF-8"):
        source.server()
    place.write_text("\n")
    with pytest.raises(CdcError, match="is empty"):
        source.server()
    place.write_text("s3cret \n")
    assert source.server().password == "s3cret "


def test_a_secret_that_was_read_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "p@ss/word")
    loaded = config()
    server = loaded.source("shop").server()
    for shown in (repr(loaded), str(loaded), repr(server), loaded.model_dump_json()):
        assert "p@ss/word" not in shown
    assert redact("at p@ss/word and p%40ss%2Fword!") == "at *** and ***!"
    assert redact("a b", ["b", "a b"]) == "***"


def test_wanted_goes_by_globs_and_never_takes_our_own_schemas() -> None:
    source = Source(
        name="a", url="postgresql:///a", tables=("public.*", "shop.order?", "c*.*"), exclude=("public.tmp_*",)
    )
    assert source.wanted("public", "accounts")
    assert source.wanted("public", "with.dot")
    assert source.wanted("shop", "orders")
    assert not source.wanted("public", "tmp_1")
    assert not source.wanted("shop", "carts")
    assert not source.wanted("cdc", "secret")
    everything = Source(name="a", url="postgresql:///a", tables=("*.*",))
    assert [s for s in ("pg_catalog", "pg_temp_3", "information_schema", "cdc") if everything.wanted(s, "t")] == []


def test_an_unknown_section_name_lists_the_known_ones() -> None:
    with pytest.raises(CdcError) as caught:
        config().sink("us")
    assert caught.value.code.name == "SECTION_UNKNOWN"
    assert "no [sink.us]" in caught.value.text
    assert caught.value.hint == "sections there: eu"
    with pytest.raises(CdcError, match=r"no \[source.eu\]"):
        config().source("eu")


def test_each_unit_has_a_metrics_port_of_its_own() -> None:
    loaded = config(PLAIN + '[metrics]\nlisten = "127.0.0.1:9187"')
    assert loaded.metrics_address("source", "shop") == ("127.0.0.1", 9187)
    assert loaded.metrics_address("sink", "eu") == ("127.0.0.1", 9188)
    assert config().metrics_address("sink", "eu") is None


def test_the_file_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CDC_CONFIG", raising=False)
    with pytest.raises(CdcError, match=r"looked at cdc\.toml, /etc/cdc/cdc\.toml"):
        find()
    named, by_environment = tmp_path / "a.toml", tmp_path / "b.toml"
    for file in (Path("cdc.toml"), named, by_environment):
        file.write_text(PLAIN)
    assert find() == Path("cdc.toml")
    monkeypatch.setenv("CDC_CONFIG", str(by_environment))
    assert find() == by_environment
    assert load(named).file == named
    with pytest.raises(CdcError, match=r"looked at gone\.toml"):
        find(Path("gone.toml"))
    named.write_bytes(b"\xff")
    with pytest.raises(CdcError, match="cannot be read"):
        load(named)


ARCHIVE = (
    PLAIN
    + """
[archive.main]
sources = ["shop"]
url = "file:///backup"
encryption_key = "none"
"""
)


OTHER = """
[source.other]
url = "postgresql:///other"
tables = ["*.*"]
[sink.us]
source = "other"
url = "postgresql:///us"
"""


def test_an_archive_takes_bases_and_anchors_by_itself_unless_told_not_to() -> None:
    archive, _ = config(ARCHIVE).archive("main")
    assert (archive.base_every, archive.base_at, archive.base_from, archive.anchor_every) == (
        86400,
        None,
        "source",
        86400,
    )
    off = ARCHIVE + 'base_every = "never"\nanchor_every = "never"\nbase_at = "02:30 Europe/Berlin"\nbase_from = "eu"'
    archive, _ = config(off).archive("main")
    assert (archive.base_every, archive.base_from, archive.anchor_every) == (None, "eu", None)
    assert archive.base_at is not None
    assert str(archive.base_at.zone) == "Europe/Berlin"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('base_at = "02:30"', "[archive.main] base_at: '02:30' is not like \"02:30 Europe/Berlin\""),
        ('base_at = "24:30 UTC"', "'24:30 UTC' is not like"),
        ('base_at = "02:30 Europe/Berlim"', "'Europe/Berlim' is no time zone that this system knows"),
        ('base_at = "02:30 ../../etc"', "is not like"),
        ('base_at = "02:30 UTC"\nbase_every = "6h"', 'base_every must be "24h" or more'),
        ('base_every = "sometimes"', "[archive.main] base_every: 'sometimes' is not like"),
        ('base_every = "0s"', "[archive.main] base_every"),
        ('base_from = "eux"', "[archive.main] base_from: there is no [sink.eux]; did you mean eu?"),
        (
            'base_from = "us"' + OTHER,
            "[archive.main] base_from: [sink.us] is no replica of source shop",
        ),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused(line: str, words: str) -> None:
    assert words in str(refusal(ARCHIVE + line))
