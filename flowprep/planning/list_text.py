"""The text of lists and of classInd.txt: its encoding, its lines, and quoted names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from flowprep.errors import UsageError
from flowprep.system.files import read_regular

LINE_CHARACTERS = 1 << 14  # the longest path that Linux opens has 4,095 bytes
_SAMPLE_BYTES = 1 << 16
# The longer marks first: that of UTF-32 begins like that of UTF-16.
_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1f\x7f]")


def read_list_text(path: Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 or UTF-32, which their first bytes tell.

    Bytes that are not UTF-8 become surrogates: a file's name may consist of any bytes. `check_utf8` refuses
    them elsewhere.

    Raises:
        UsageError: the file cannot be read, is no regular file, is too large, or is not text.
    """
    try:
        data = read_regular(path)
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "")
    sample = data[:_SAMPLE_BYTES]
    if not encoding and b"\0" in sample:
        encoding = _utf16_without_mark(sample)
    if len(_CONTROL.findall(sample)) > len(sample) / 50 and encoding in ("", "utf-8-sig"):
        raise UsageError(f"{path} is a binary file; a list is a text file in UTF-8")
    errors = "surrogateescape" if encoding in ("", "utf-8-sig") else "strict"
    try:
        text = data.decode(encoding or "utf-8", errors)
    except UnicodeDecodeError as exc:
        name = encoding.upper().removesuffix("-SIG")
        raise UsageError(
            f"{path} begins like a text in {name}, but byte {exc.start} is not {name}; save it in UTF-8"
        ) from exc
    if "\0" in text:
        raise UsageError(f"{path} is a binary file: it has zero bytes; a list is a text file in UTF-8")
    return text


def numbered_lines(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text that are not blank, with their numbers from 1. Other characters stay.

    Raises:
        UsageError: a line is longer than any line of a list.
    """
    # str.splitlines would also split at characters that may be part of a file's name.
    for number, line in enumerate(text.split("\n" if "\n" in text else "\r"), 1):
        if len(line) > LINE_CHARACTERS:
            raise UsageError(
                f"{path}, line {number}: {len(line)} characters; a line has at most {LINE_CHARACTERS}"
            )
        if line.strip():
            yield number, line.removesuffix("\r")


def is_utf8(text: str) -> bool:
    """Whether a text from `read_list_text` has only characters that are UTF-8 in the file."""
    return text.isascii() or not _NOT_UTF8.search(text)


def check_utf8(path: Path, number: int, text: str) -> None:
    """Refuse a text with bytes that are not UTF-8.

    Raises:
        UsageError: with the encoding that the bytes may be in.
    """
    if not is_utf8(text) and (match := _NOT_UTF8.search(text)):
        byte = match[0].encode("utf-8", "surrogateescape")
        raise UsageError(
            f"{path}, line {number}: byte 0x{byte.hex()} is not UTF-8; in Latin-1 (ISO-8859-1) it is"
            f" {byte.decode('latin-1')!r}. If that is right: iconv -f latin1 -t utf-8 {path.name}"
        )


def quote(text: str) -> str:
    """A name in double quotes, on one line, with the escapes of JSON."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in quoted)


def split_quoted(text: str) -> tuple[str, str] | None:
    """The quoted name that a text begins with, and the rest; None if it does not begin with one.

    Quotes are double, with the escapes of JSON, or single, without escapes.
    """
    match = re.match(r'"((?:[^"\\]|\\.)*)"(?=\s|$)|\'([^\']*)\'(?=\s|$)', text, re.DOTALL)
    if not match:
        return None
    rest = text[match.end() :].strip()
    if match[2] is not None:
        return match[2], rest
    try:
        return json.loads(match[0], strict=False), rest
    except ValueError:
        return match[1], rest  # backslashes that are no escapes


def _utf16_without_mark(sample: bytes) -> str:
    """The UTF-16 that a text without a mark is in, told by the zeros of its ASCII characters; or ""."""
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if odd > len(sample) / 4 and not even:
        return "utf-16-le"
    if even > len(sample) / 4 and not odd:
        return "utf-16-be"
    return ""
