"""The schema registry, by Confluent's API: ids for schemas, and schemas by their ids.

In: `[registry]` of the configuration. Out: the id of a schema under its subject (`register`), a schema by its id
(`schema`), both kept. Refuses: a registry that is away (REGISTRY_UNREACHABLE, which passes), that cannot be trusted
(REGISTRY_TLS), that refuses the login or the account (REGISTRY_LOGIN), a schema or an id (REGISTRY_REFUSED).

Every subject is set to compatibility NONE by a process's first schema of it: a DDL of the database that the registry
held to be incompatible would otherwise stop the source. The few calls need no more than an HTTP client.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

import orjson

from cdc.errors import REGISTRY_LOGIN, REGISTRY_LOST, REGISTRY_REFUSED, REGISTRY_TLS, REGISTRY_UNREACHABLE, CdcError
from cdc.secret import redact

SubjectStrategy = Literal["topic", "record", "topic-record"]
_CONTENT = "application/vnd.schemaregistry.v1+json"
_CONNECT_S, _READ_S = 5, 15


@dataclass(frozen=True, slots=True)
class RegistryServer:
    """Where the registry is and who we are to it."""

    urls: tuple[str, ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    subjects: SubjectStrategy = "topic"


class Registry:
    """A client of one process."""

    def __init__(self, server: RegistryServer) -> None:
        import urllib3  # noqa: PLC0415 - only who asks a registry waits for it to load

        self._server = server
        self._headers = {"Accept": f"{_CONTENT}, application/json", "Content-Type": _CONTENT}
        if server.user is not None:
            self._headers |= urllib3.make_headers(basic_auth=f"{server.user}:{server.password or ''}")
        self._pool = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(connect=_CONNECT_S, read=_READ_S), ssl_context=self._context()
        )
        self._ids: dict[tuple[str, bytes], int] = {}
        self._schemas: dict[int, Any] = {}
        self._free: set[str] = set()

    def close(self) -> None:
        self._pool.clear()

    def register(self, topic: str, part: Literal["key", "value"], schema: Any) -> int:
        """The id of a schema of a topic's keys or values; it is registered if it is new."""
        subject, text = self._subject(topic, part, schema), orjson.dumps(schema)
        known = self._ids.get((subject, text))
        if known is not None:
            return known
        at = quote(subject, safe="")
        known_to_it = subject in self._free or self._free_of_rules(subject, at)
        try:
            answer = self._post(subject, at, text)
        except CdcError as error:
            # Somebody has set rules for it since.
            if not _said_status(error, 409):
                raise
            self._free_of_rules(subject, at)
            answer = self._post(subject, at, text)
        if not known_to_it:
            self._free_of_rules(subject, at)
        self._ids[subject, text] = found = int(answer["id"])
        return found

    def _post(self, subject: str, at: str, text: bytes) -> Any:
        return self._call("POST", f"/subjects/{at}/versions", {"schema": text.decode()}, f"a schema of {subject}")

    def subjects(self) -> list[str]:
        """All that it has; asked for also to see whether it answers, by Confluent's API, to us."""
        subjects = self._call("GET", "/subjects", None, "the list of subjects")
        if not isinstance(subjects, list):
            raise self._refused("the list of subjects", "the answer is none: it may not speak Confluent's API there")
        return sorted(map(str, subjects))

    def _free_of_rules(self, subject: str, at: str) -> bool:
        """Whether the registry took it: some have no rules for a subject before its first schema."""
        try:
            self._call("PUT", f"/config/{at}", {"compatibility": "NONE"}, f"the compatibility of {subject}")
        except CdcError as error:
            if not _said_status(error, 404):
                raise
            return False
        self._free.add(subject)
        return True

    def schema(self, schema_id: int) -> Any:
        """The Avro schema of this id, parsed."""
        if schema_id not in self._schemas:
            answer = self._told(schema_id)
            if answer.get("schemaType", "AVRO") != "AVRO":
                raise self._refused(f"the schema of id {schema_id}", f"it is of type {answer['schemaType']}, not Avro")
            self._schemas[schema_id] = orjson.loads(answer["schema"])
        return self._schemas[schema_id]

    def _told(self, schema_id: int) -> Any:
        try:
            return self._call("GET", f"/schemas/ids/{schema_id}", None, f"the schema of id {schema_id}")
        except CdcError as error:
            if _said_status(error, 404):
                raise CdcError(REGISTRY_LOST, url=self._server.urls[0], id=schema_id) from None
            raise

    def _subject(self, topic: str, part: str, schema: Any) -> str:
        name = f"{schema['namespace']}.{schema['name']}"
        return {"topic": f"{topic}-{part}", "record": name, "topic-record": f"{topic}-{name}"}[self._server.subjects]

    # -- calls --------------------------------------------------------------------------------------------------
    def _call(self, method: str, path: str, body: Mapping[str, Any] | None, what: str) -> Any:
        """The answer of the first of the registry's addresses that has one."""
        problem = CdcError(REGISTRY_UNREACHABLE, url=self._server.urls[0], problem="no address")
        for url in self._server.urls:
            try:
                return self._ask(url, method, path, body, what)
            except CdcError as error:
                if error.code is not REGISTRY_UNREACHABLE:
                    raise
                problem = error
        raise problem

    def _ask(self, url: str, method: str, path: str, body: Mapping[str, Any] | None, what: str) -> Any:
        from urllib3.exceptions import HTTPError, MaxRetryError, SSLError  # noqa: PLC0415 - see above

        data = None if body is None else orjson.dumps(body)
        try:
            answer = self._pool.request(method, url.rstrip("/") + path, body=data, headers=self._headers)
        except SSLError as error:
            raise self._untrusted(url, error) from None
        except HTTPError as error:
            reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
            if isinstance(reason, SSLError):
                raise self._untrusted(url, reason) from None
            raise CdcError(REGISTRY_UNREACHABLE, url=url, problem=redact(str(reason))) from None
        if answer.status in (401, 403):
            user = self._server.user or "nobody"
            raise CdcError(REGISTRY_LOGIN, url=url, user=user, what=what, problem=_said(answer.data, answer.status))
        if answer.status >= 500 or answer.status in (408, 429):
            raise CdcError(REGISTRY_UNREACHABLE, url=url, problem=_said(answer.data, answer.status))
        if answer.status >= 300:
            raise self._refused(what, _said(answer.data, answer.status), url)
        try:
            return orjson.loads(answer.data)
        except ValueError:
            raise self._refused(what, f"the answer is no JSON: {answer.data[:80]!r}", url) from None

    def _refused(self, what: str, problem: str, url: str | None = None) -> CdcError:
        return CdcError(REGISTRY_REFUSED, url=url or self._server.urls[0], what=what, problem=problem)

    def _untrusted(self, url: str, error: Exception) -> CdcError:
        return CdcError(REGISTRY_TLS, url=url, problem=redact(str(error)))

    def _context(self) -> ssl.SSLContext:
        server = self._server
        try:
            context = ssl.create_default_context(cafile=server.ca)
            if server.certificate is not None:
                context.load_cert_chain(server.certificate, server.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(file for file in (server.ca, server.certificate, server.key) if file)
            raise CdcError(REGISTRY_TLS, url=server.urls[0], problem=f"{error}; of {files}") from None
        return context


def schemas_of(server: RegistryServer | None) -> Callable[[int], Any] | None:
    """A schema by its id; None where no registry is configured."""
    return None if server is None else Registry(server).schema


def _said_status(error: CdcError, status: int) -> bool:
    """Whether the registry refused with this status: 404, there is no such thing; 409, rules forbid it."""
    return error.code is REGISTRY_REFUSED and str(error.facts["problem"]).startswith(f"{status} ")


def _said(body: bytes, status: int) -> str:
    """The registry's own words, on one line."""
    try:
        message = orjson.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        message = body[:200].decode(errors="replace")
    return f"{status} {' '.join(str(message).split())}".strip()
