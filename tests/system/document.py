"""A document whose commands are run as they stand there, one block after the other.

In: the document, the names in it that are others here. Out: what each block printed. A block is what stands behind
`<!-- test: name -->`; the variables that it exports are there for the next one, as in the terminal of a reader.
"""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers.fetch import ROOT

_BLOCK = re.compile(r"<!-- test: (.+?) -->\n```(\w+)\n(.*?)```", re.DOTALL)
_SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)


class Document:
    """One reader's way through it, in a directory of his own."""

    def __init__(self, name: str, directory: Path, names: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self.text = (ROOT / name).read_text()
        self.blocks = {block: text for block, _, text in _BLOCK.findall(self.text)}
        self._directory, self._names = directory, names
        self._environment = dict(environment)
        self._exports = directory / "exports"
        self._exports.touch()

    def run(self, name: str) -> str:
        """A block of shell commands, as it stands; its output."""
        return self.shell(self.blocks[name])

    def shell(self, text: str) -> str:
        """Commands with the names of this place."""
        for old, new in self._names.items():
            text = text.replace(old, new)
        script = f". {self._exports}\n{text}\nexport -p > {self._exports}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], env=self._environment, cwd=self._directory,
            capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
        return done.stdout

    @property
    def exported(self) -> dict[str, str]:
        """The environment that a reader has by now."""
        show = f". {self._exports}; env -0"
        output = subprocess.run(["bash", "-c", show], env=self._environment, capture_output=True, text=True, check=True)
        return dict(line.split("=", 1) for line in output.stdout.split("\0") if line)

    def shown(self) -> list[str]:
        """Every block of shell commands, tested by name or not."""
        return _SHELL.findall(self.text)
