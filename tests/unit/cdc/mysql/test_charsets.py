"""Character sets by collation, and bytes in them."""

import pytest

from cdc.mysql.charsets import BINARY, charset, is_utf8, to_utf8


def test_sets_by_collation() -> None:
    carried = {8: "latin1", 11: "ascii", 33: "utf8mb3", 45: "utf8mb4", 54: "utf16", 56: "utf16le", 60: "utf32",
               35: "ucs2", 255: "utf8mb4", 323: "utf8mb4", 192: "utf8mb3", BINARY: "binary"}  # fmt: skip
    assert {number: charset(number) for number in carried} == carried
    # sjis, gbk, latin2, and numbers that nobody gave away.
    assert [charset(number) for number in (13, 28, 2, 0, 9_999)] == [None] * 5


def test_utf8_stays_as_it_is() -> None:
    assert [name for name in ("utf8mb4", "utf8mb3", "ascii", "latin1", "utf16") if is_utf8(name)] == [
        "utf8mb4", "utf8mb3",
    ]  # fmt: skip
    assert to_utf8("utf8mb4")(b"\xff") == b"\xff"


def test_latin1_has_every_byte() -> None:
    text = to_utf8("latin1")(bytes(range(256))).decode()
    assert len(set(text)) == 256
    assert text[:128] == "".join(map(chr, range(128)))
    assert (text[0x80], text[0x81], text[0x9D], text[0xE9]) == ("€", "\x81", "\x9d", "é")


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("ascii", b"a", "a"),
        ("utf16", "a𝄞".encode("utf-16-be"), "a𝄞"),
        ("utf16le", "a𝄞".encode("utf-16-le"), "a𝄞"),
        ("utf32", "a𝄞".encode("utf-32-be"), "a𝄞"),
        ("ucs2", "é€".encode("utf-16-be"), "é€"),
    ],
)
def test_others_are_converted(name: str, data: bytes, text: str) -> None:
    assert to_utf8(name)(data).decode() == text


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("ascii", b"\x80"),
        ("utf16", b"\xd8\x3d"),
        ("utf16", b"a"),
        ("utf16le", b"\x3d\xd8"),
        ("utf32", b"\x00\x00\xd8\x3d"),
        ("utf32", b"\x00\x11\x00\x00"),
        # A pair of surrogates is two characters in ucs2, and no text of ours has either.
        ("ucs2", "𝄞".encode("utf-16-be")),
        ("ucs2", b"\xd8\x3d"),
    ],
)
def test_what_a_set_does_not_have_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=name):
        to_utf8(name)(data)
