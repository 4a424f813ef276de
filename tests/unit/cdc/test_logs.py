"""Log lines: key=value on one line, to stderr, without secrets."""

import logging
import re
from collections.abc import Iterator

import pytest
import sqlglot
import structlog

from cdc import logs
from cdc.secret import Secret


@pytest.fixture
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], root.level, logging.raiseExceptions = before
    structlog.reset_defaults()


@pytest.mark.usefixtures("restored")
def test_our_lines_and_those_of_libraries_have_one_form(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.configure()
    monkeypatch.setenv("SHOWN_NOWHERE", "s3cret-in-a-log")
    Secret("${SHOWN_NOWHERE}").resolve("source.shop", "password")
    log = structlog.get_logger().bind(source="shop", position=None)
    log.info("run started", run="ab", text="two words\nand a line", empty="", url="x=s3cret-in-a-log")
    logging.getLogger("rdkafka").warning("broker %s s3cret-in-a-log", 1)
    sqlglot.parse_one("ALTER USER x IDENTIFIED WITH 'sha' AS 'a-hash'", dialect="mysql")
    ours, theirs = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT[\d:.]+Z info run started source=shop run=ab "
        r'text="two words and a line" empty="" url="x=\*\*\*"',
        ours,
    )
    assert re.fullmatch(r"\S+Z warning broker 1 \*\*\*", theirs)
