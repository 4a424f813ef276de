"""Writes docs/TROUBLESHOOTING.md out of the catalogue of errors: `python -m tests.troubleshooting`.

A test says when the file is no longer what this writes.
"""

import re
from pathlib import Path

from cdc.errors import CATALOGUE, EXIT_CODES, Code, Kind

FILE = Path(__file__).parents[1] / "docs/TROUBLESHOOTING.md"
MEANING = {
    Kind.TRANSIENT: "passes: the process tries again, 0.5 to 15 s apart; a command that runs once exits 1",
    Kind.STOP: "wants a decision: the process exits 5, and `cdc up` leaves it alone",
    Kind.USAGE: "command line or configuration: exit 2",
    Kind.HELD: "somebody else holds the name: the process stands by, with `--no-wait` it exits 4",
    Kind.CORRUPT: "bytes that do not follow their format: exit 1",
    Kind.FAILED: "what was asked for could not be done: exit 1",
}
HEAD = """# Troubleshooting

Written by `python -m tests.troubleshooting`; do not edit.

Every error has a code, says where it happened (source, table, position) and what to do:

```
SLOT_LOST (source shop): …
  what to do: …
```

| you see | look at |
| --- | --- |
| a process that exits, or `cdc up` that names one | its last error, by code below |
| a replica that lags | `cdc status --watch`: which stage is behind. The source: its database or Kafka is slow; the sink: its target is |
| a process that runs and gets nowhere | `cdc status`: `waiting`, and the error that it waits to pass |
| production's disk filling | `cdc status`: log kept on production. A source that is stopped keeps it: start it, or `cdc teardown` |
| rows that differ | `cdc verify SOURCE --sink NAME`: EQUAL, or some of the keys. What is not followed is in [LIMITS](LIMITS.md) |
| rows that are gone everywhere | [the restore runbook](RESTORE.md) |
| a consumer that sees an event twice | plain consumers read at least once: `source.epoch, txn_seq, ordinal` name an event |
| `__debezium_unavailable_value` | a column the log did not carry: go by `unchanged` ([EVENTS](EVENTS.md)) |
"""


def document() -> str:
    """The whole file."""
    parts = [HEAD, "\n## What an error does\n"]
    for kind, meaning in MEANING.items():
        names = ", ".join(f"[{code.name}](#{code.name.lower()})" for code in _of(kind))
        parts.append(f"\n**{meaning}.** {names}\n")
    parts.append("\n## The errors\n")
    parts += [_entry(code) for _, code in sorted(CATALOGUE.items())]
    return "".join(parts)


def _of(kind: Kind) -> list[Code]:
    return [code for _, code in sorted(CATALOGUE.items()) if code.kind is kind]


def _entry(code: Code) -> str:
    hint = f"\nWhat to do: {_shown(code.hint)}.\n" if code.hint else ""
    return f"\n### {code.name}\n\n{_shown(code.text)}. ({code.kind.value}, exit {EXIT_CODES[code.kind]})\n{hint}"


def _shown(text: str) -> str:
    """Facts in italics; what Markdown would take for its own, as it is."""
    safe = re.sub(r"(?<!\{)([*_<>|])", r"\\\1", text.replace("{{", "{").replace("}}", "}"))
    return re.sub(r"\{(\w+(?:\\_\w+)*)\}", lambda found: f"*{found[1].replace(chr(92), '').replace('_', ' ')}*", safe)


if __name__ == "__main__":
    FILE.write_text(document())
