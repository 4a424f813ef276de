"""Character sets that are carried: collation ids → set, bytes in it → UTF-8. Pure.

In: the collation id that TABLE_MAP and QUERY events name. Out: its character set, and a function from bytes in that set
to the same characters in UTF-8. Refuses: a set that is not carried (`charset` gives None), bytes that the set does not
have, by `ValueError`.
"""

from __future__ import annotations

from codecs import charmap_decode
from collections.abc import Callable

ToUtf8 = Callable[[bytes], bytes]

# From information_schema.collations of 8.0.31: first and last id of a run.
_IDS = {
    "ascii": ((11, 11), (65, 65)),
    "binary": ((63, 63),),
    "latin1": ((5, 5), (8, 8), (15, 15), (31, 31), (47, 49), (94, 94)),
    "ucs2": ((35, 35), (90, 90), (128, 151), (159, 159)),
    "utf16": ((54, 55), (101, 124)),
    "utf16le": ((56, 56), (62, 62)),
    "utf32": ((60, 61), (160, 183)),
    "utf8mb3": ((33, 33), (76, 76), (83, 83), (192, 215), (223, 223)),
    "utf8mb4": ((45, 46), (224, 247), (255, 323)),
}
# What MariaDB 10.11 has besides those: no number means another set there.
_IDS_OF_MARIADB = {
    "ascii": ((1035, 1035), (1089, 1089)),
    "latin1": ((1032, 1032), (1071, 1071)),
    "ucs2": ((640, 642), (1059, 1059), (1114, 1114), (1152, 1152), (1174, 1174), (2560, 2727), (2744, 2759)),
    "utf16": ((672, 674), (1078, 1079), (1125, 1125), (1147, 1147), (2816, 2983), (3000, 3015)),
    "utf16le": ((1080, 1080), (1086, 1086)),
    "utf32": ((736, 738), (1084, 1085), (1184, 1184), (1206, 1206), (3072, 3239), (3256, 3271)),
    "utf8mb3": ((576, 578), (1057, 1057), (1107, 1107), (1216, 1216), (1238, 1238), (2048, 2215), (2232, 2247)),
    "utf8mb4": ((608, 610), (1069, 1070), (1248, 1248), (1270, 1270), (2304, 2471), (2488, 2503)),
}
_CHARSET = {
    number: name
    for ids in (_IDS, _IDS_OF_MARIADB)
    for name, runs in ids.items()
    for first, last in runs
    for number in range(first, last + 1)
}
BINARY = 63


def charset(collation: int) -> str | None:
    """The set of a collation; None if it is not carried."""
    return _CHARSET.get(collation)


# MySQL's latin1 is cp1252, its five holes filled with the control characters of the same number.
_LATIN1 = "".join(
    chr(byte) if byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else bytes([byte]).decode("cp1252") for byte in range(256)
)


def _same(data: bytes) -> bytes:
    return data


def _ascii(data: bytes) -> bytes:
    if not data.isascii():
        raise ValueError("bytes above 0x7F in a text of character set ascii")
    return data


def _latin1(data: bytes) -> bytes:
    return charmap_decode(data, "strict", _LATIN1)[0].encode()


def _codec(charset: str, codec: str) -> ToUtf8:
    def to_utf8(data: bytes) -> bytes:
        try:
            return data.decode(codec).encode()
        except UnicodeDecodeError:
            raise ValueError(f"bytes that character set {charset} does not have") from None

    return to_utf8


def _ucs2(data: bytes) -> bytes:
    """Two bytes a character: a pair of surrogates is none, unlike in utf16."""
    try:
        text = data.decode("utf-16-be")
    except UnicodeDecodeError:
        text = ""
    if len(text) * 2 != len(data):
        raise ValueError("bytes that character set ucs2 does not have")
    return text.encode()


_TO_UTF8: dict[str, ToUtf8] = {
    "utf8mb4": _same,
    "utf8mb3": _same,
    "ascii": _ascii,
    "latin1": _latin1,
    "utf16": _codec("utf16", "utf-16-be"),
    "utf16le": _codec("utf16le", "utf-16-le"),
    "utf32": _codec("utf32", "utf-32-be"),
    "ucs2": _ucs2,
}


def to_utf8(charset: str) -> ToUtf8:
    """From bytes in a carried set, not `binary`, to UTF-8."""
    return _TO_UTF8[charset]


def is_utf8(charset: str) -> bool:
    return _TO_UTF8[charset] is _same
