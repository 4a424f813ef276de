"""pg_dump's text is cut where an object begins and nowhere else; the program is found or named."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import PG_DUMP_FAILED, PG_DUMP_MISSING, CdcError
from cdc.postgres.session import Server, Side
from sinks.archive.dump import Dump, Entry, Program, dump, find_program, is_ours, split

GOLDEN = Path(__file__).parents[3] / "golden/pg_dump"
PRE = (GOLDEN / "pre-data.sql").read_text()
POST = (GOLDEN / "post-data.sql").read_text()
SERVER = Server(Side.SOURCE, "shop", "postgresql://reader@127.0.0.1:1/shop", "reader's s3cret")
HEAD = "--\n-- PostgreSQL database dump\n--\n\n\\restrict x\n\nSET lock_timeout = 0;\n\n"
TAIL = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict x\n\n"
LIAR = "\n--\n-- Name: liar; Type: TABLE; Schema: public; Owner: -\n--\n\nCREATE TABLE liar ();\n"


def written(*entries: tuple[str, str]) -> str:
    """As pg_dump writes names and statements."""
    blocks = (f"--\n-- Name: {name}; Type: TABLE; Schema: s; Owner: -\n--\n\n{sql}\n\n\n" for name, sql in entries)
    return HEAD + "".join(blocks) + TAIL


def entry(name: str, kind: str, text: str = PRE) -> Entry:
    [found] = [e for e in split(text) if (e.name, e.type) == (name, kind)]
    return found


# -- the recorded dump ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", [PRE, POST])
def test_nothing_of_a_dump_is_lost_or_made_up(text: str) -> None:
    """What remains of the text without its entries is comments, empty lines and what sets up pg_dump's session."""
    rest = text
    for e in split(text):
        assert e.sql
        assert e.sql.endswith(";")
        body = e.sql.removeprefix("SET default_table_access_method = heap_too;\n")
        body = body.removesuffix("\nRESET default_table_access_method;")
        assert body in rest, e
        rest = rest.replace(body, "", 1)
    lines = {line for line in rest.splitlines() if line and not line.startswith("--")}
    assert {line.split()[0] for line in lines} <= {"SET", "SELECT", "\\restrict", "\\unrestrict"}
    assert "liar" not in rest


def test_the_objects_of_a_recorded_dump() -> None:
    pre, post = split(PRE), split(POST)
    assert not any(e.name == "liar" for e in [*pre, *post])
    kinds = [e.type for e in pre]
    assert kinds.index("SCHEMA") < kinds.index("FUNCTION") < kinds.index("TABLE") < kinds.index("VIEW")
    assert {"DOMAIN", "TYPE", "EXTENSION", "SEQUENCE", "SEQUENCE OWNED BY", "TABLE ATTACH", "MATERIALIZED VIEW",
            "FOREIGN TABLE", "COMMENT", "DEFAULT", "AGGREGATE", "PROCEDURE"} <= set(kinds)  # fmt: skip
    assert {"CONSTRAINT", "FK CONSTRAINT", "INDEX", "INDEX ATTACH", "TRIGGER", "RULE", "POLICY", "ROW SECURITY",
            "PUBLICATION", "EVENT TRIGGER", "STATISTICS"} <= {e.type for e in post}  # fmt: skip
    assert entry("accounts", "TABLE").schema == "public"
    assert entry("odd", "SCHEMA").schema == ""
    assert entry("Name: x", "TABLE").schema == "Odd; Type: TABLE"
    assert entry("Name: x", "TABLE").sql.startswith('CREATE TABLE "Odd; Type: TABLE"."Name: x" (')


@pytest.mark.parametrize(
    ("name", "kind"),
    [("SCHEMA odd", "COMMENT"), ("accounts", "TABLE"), ("tricky(integer, text)", "FUNCTION")],
)
def test_what_looks_like_an_object_in_a_quotation_is_none(name: str, kind: str) -> None:
    assert LIAR.split("\n\n", maxsplit=1)[0] in entry(name, kind).sql


def test_a_setting_stays_with_the_object_it_is_for() -> None:
    other = entry("other_method", "TABLE").sql
    assert other.startswith("SET default_table_access_method = heap_too;\nCREATE TABLE public.other_method")
    assert other.endswith(";\nRESET default_table_access_method;")
    for before in ("happier", "same_method", "far"):
        [sql] = [e.sql for e in split(PRE) if e.name == before]
        assert "default_table_access_method" not in sql


def test_what_is_ours_is_left_out_and_nothing_else() -> None:
    ours = [(e.name, e.type) for e in split(POST) if is_ours(e, "cdc_shop")]
    assert ours == [
        ("cdc_shop", "PUBLICATION"),
        ("PUBLICATION cdc_shop", "COMMENT"),
        ("cdc_shop accounts", "PUBLICATION TABLE"),
        ("cdc_shop child", "PUBLICATION TABLE"),
        ("cdc_shop parent", "PUBLICATION TABLE"),
        ("cdc_ddl", "EVENT TRIGGER"),
        ("cdc_drop", "EVENT TRIGGER"),
        ("cdc_rewrite", "EVENT TRIGGER"),
    ]
    odd = [e.name for e in split(POST) if is_ours(e, "cdc_shop two")]
    assert odd[:2] == ["cdc_shop two", "cdc_shop two public"]
    assert not any(is_ours(e, "cdc_shop") for e in split(PRE))


def test_a_dump_comes_back_from_its_json() -> None:
    made = Dump(pg_dump="18.6", pre=tuple(split(PRE)), post=tuple(split(POST)))
    assert Dump.parse(made.to_bytes()) == made


# -- the scanner ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT '{LIAR}';",
        f"SELECT 'it''s{LIAR}';",
        f"SELECT E'\\'{LIAR}';",
        f"SELECT e'\\\\''{LIAR}';",
        f"SELECT E'a''\\'{LIAR}';",
        f"SELECT DATE'\\' || '{LIAR}';",
        f'SELECT "{LIAR}";',
        f'SELECT """{LIAR}";',
        f"SELECT $${LIAR}$$;",
        f"SELECT $a$ $$ ' $b$ {LIAR}$a$;",
        f"SELECT $ä_1$ $a$ {LIAR}$ä_1$;",
        f"SELECT a$b$, '{LIAR}', c$b$;",
        f"SELECT a$b$, '$b$', '{LIAR}';",
        "SELECT 1;\n-- Name: liar; Type: TABLE; Schema: public; Owner: -\nSELECT 2;",
        f"SELECT $1, $2, '{LIAR}';",
        f"/* ' /* \" */ $$ {LIAR} */ SELECT 1;",
        "SELECT 1; -- it's \"not $$ closed /*",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC\n SELECT '; --';\n SELECT 1;\nEND;",
        "SELECT '--\n-- PostgreSQL database dump complete\n--\n';",
    ],
)
def test_a_quotation_is_never_cut(sql: str) -> None:
    assert split(written(("a", sql), ("b", "SELECT 2;"))) == [
        Entry("a", "TABLE", "s", sql),
        Entry("b", "TABLE", "s", "SELECT 2;"),
    ]


TEXTS = st.lists(st.sampled_from(["a", " ", "\n", "'", '"', "$", "$$", "\\", "--", "/*", "*/", ";", "E", "é", LIAR]))


@given(st.lists(st.tuples(st.sampled_from(["'", '"', "E'", "$$", "$x$", "/*"]), TEXTS), max_size=4))
def test_whatever_is_quoted_stays_where_it_is(pieces: list[tuple[str, list[str]]]) -> None:
    sql = "SELECT " + ", ".join(quoted(how, "".join(text)) for how, text in pieces) + ";"
    assert [e.sql for e in split(written(("a", sql), ("b", "SELECT 2;")))] == [sql, "SELECT 2;"]


def quoted(how: str, text: str) -> str:
    if how == "E'":
        return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    if how.startswith("$"):
        return how + text.replace("$", "") + how
    if how == "/*":
        return "/*" + text.replace("/*", "").replace("*/", "") + " */ 1"
    return how + text.replace(how, how * 2) + how


def test_a_dump_without_objects_is_empty() -> None:
    assert split(HEAD + TAIL) == []


@pytest.mark.parametrize("size", [0, len(HEAD), len(PRE) // 2, len(PRE) - 200])
def test_a_text_that_breaks_off_is_no_dump(size: int) -> None:
    with pytest.raises(ValueError, match="does not end"):
        split(PRE[:size])


@pytest.mark.parametrize("opened", ["'", '"', "$$", "/*", "E'"])
def test_a_quotation_that_does_not_end_is_no_dump(opened: str) -> None:
    with pytest.raises(ValueError, match="does not end"):
        split(written(("a", f"SELECT {opened} 1;")))


# -- the program ------------------------------------------------------------------------------------------------
def program(directory: Path, script: str) -> str:
    path = directory / "pg_dump"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_program_is_the_one_that_is_named_or_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(tmp_path, "echo 'pg_dump (PostgreSQL) 18.6 (Debian 18.6-1)'")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("PG_DUMP", raising=False)
    assert find_program(SERVER, 180004) == Program(path, "18.6")
    named = tmp_path / "named"
    named.mkdir()
    monkeypatch.setenv("PG_DUMP", program(named, "echo 'pg_dump (PostgreSQL) 19beta1'"))
    assert find_program(SERVER, 150000) == Program(str(named / "pg_dump"), "19beta1")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "no program"),
        ("echo 'pg_dump (PostgreSQL) 15.18'", "is version 15.18, older than the server"),
        ("echo hello", "does not tell its version"),
    ],
)
def test_a_program_that_will_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, said: str
) -> None:
    monkeypatch.setenv("PG_DUMP", program(tmp_path, script) if script else str(tmp_path / "nothing"))
    with pytest.raises(CdcError, match=said) as caught:
        find_program(SERVER, 180006)
    assert caught.value.code is PG_DUMP_MISSING
    assert "postgresql-client-18" in caught.value.hint


def test_no_program_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PG_DUMP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CdcError, match="there is no pg_dump on PATH") as caught:
        find_program(SERVER, 180006)
    assert caught.value.code is PG_DUMP_MISSING


def test_a_failure_is_one_line_without_the_password(tmp_path: Path) -> None:
    path = program(tmp_path, 'echo "pg_dump: error: no" >&2; echo "hint: $PGPASSWORD" >&2; exit 1')
    with pytest.raises(CdcError) as caught:
        dump(Program(path, "18.6"), SERVER, "0-1", "cdc_shop")
    assert caught.value.code is PG_DUMP_FAILED
    assert caught.value.text == f"{path} failed: pg_dump: error: no hint: ***"
    assert "pg_read_all_data" in caught.value.hint


@pytest.mark.parametrize("script", ["exit 3", "echo 'CREATE TABLE x ();'", "kill -9 $$"])
def test_a_program_that_writes_no_dump_failed(tmp_path: Path, script: str) -> None:
    with pytest.raises(CdcError) as caught:
        dump(Program(program(tmp_path, script), "18.6"), SERVER, "0-1", "cdc_shop")
    assert caught.value.code is PG_DUMP_FAILED


def test_the_password_is_in_no_argument_and_both_sections_are_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    path = program(tmp_path, f'echo "$@ / $PGPASSWORD" >> {log}\ncat <<"XXX"\n{HEAD}{TAIL}\nXXX')
    made = dump(Program(path, "18.6"), SERVER, "0-1", "cdc_shop")
    assert made == Dump(pg_dump="18.6", pre=(), post=())
    sections = log.read_text().splitlines()
    assert len(sections) == 2
    for line, section in zip(sections, ("pre-data", "post-data"), strict=True):
        arguments, _, password = line.partition(" / ")
        assert password == SERVER.password
        assert "s3cret" not in arguments
        for option in (f"--section={section}", "--snapshot=0-1", "--schema-only", "--exclude-schema=cdc",
                       "--no-owner", "--no-privileges", "--no-subscriptions"):  # fmt: skip
            assert option in arguments
