"""Where an archive is kept, as a URL says it: a place, and how its objects are encrypted there. Pure.

In: `s3://BUCKET/PREFIX?sse=aws:kms&kms-key=ID` or `file:///DIRECTORY`. Out: `StoreUrl`. Refuses (`ValueError`, in words
that repeat nothing of the URL, since it may hold a secret): other schemes, other parameters, logins.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

_SSE = ("AES256", "aws:kms", "aws:kms:dsse")
_FORMS = "an archive is at s3://BUCKET/PREFIX or file:///DIRECTORY"


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """`place` is the URL without parameters; `sse` is what each object asks of S3, "" for the bucket's own rule."""

    place: str
    sse: str = ""
    kms_key: str = ""

    @classmethod
    def parse(cls, url: str) -> StoreUrl:
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        query = dict(given)
        if "@" in parts.netloc or "#" in url or len(query) < len(given):
            raise ValueError(_FORMS)
        if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc and "?" not in url:
            return cls(url)
        if parts.scheme != "s3" or not parts.netloc or ("?" in url and not query):
            raise ValueError(_FORMS)
        if query.keys() - {"sse", "kms-key"}:
            raise ValueError(f"{_FORMS}; parameters of s3:// are sse and kms-key")
        sse, kms_key = query.get("sse", ""), query.get("kms-key", "")
        if "sse" in query and sse not in _SSE:
            raise ValueError(f"sse is one of {', '.join(_SSE)}")
        if "kms-key" in query and not (kms_key and sse.startswith("aws:kms")):
            raise ValueError("kms-key goes with sse=aws:kms")
        return cls(url.partition("?")[0], sse, kms_key)
