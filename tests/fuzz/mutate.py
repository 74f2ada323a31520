"""How a sound file is spoilt: by a list of small edits, which Hypothesis can shrink and a campaign can repeat.

An edit is `(kind, place, size, value)`: what is done, where (a share of the file's length), to how much, and with
what. The same edits on the same seed always give the same bytes. `drawn` takes them from Hypothesis, `random_edits`
from a random generator, which is a hundred times faster and does not shrink.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from hypothesis import strategies as st

Edit = tuple[str, float, int, int]

NUMBERS = (0, 1, -1, 2, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)
"""Where integers wrap, overflow or turn negative in somebody's decoder."""

TOKENS = (
    b"", b"\0", b"\xff", b"\xff\xd9", b"\xff\xd8\xff", b"II*\0", b"ftyp", b"IDAT", b"Exif\0\0",
    b"null", b"true", b"[]", b"{}", b"-1", b"0.5", b"1e999", b"-1e999", b"NaN", b"Infinity", b'"', b"'", b"\\",
    b'"\\ud800"', b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r\n", b"\n", b",", b";", b":", b": ", b"- ", b"#", b"%s",
    b"[" * 2000, b"{" * 2000, b'{"a":' * 2000, b"(" * 500, b"9" * 5000, b"-" * 300, b"A" * 4096,
    b"&a [*a]", b"&a {b: *a}", b"*a", b"<<: *a", b"!!python/object/apply:os.getcwd []", b"!!binary", b"!!int x",
    b"!!timestamp 2024-13-45", b"2024-13-45", b"2024-01-01 99:99:99", b"1:99", b"0x", b"0o9", b"? [a]", b"~", b"...",
    b"---\n", b"../../etc/passwd", b"/dev/zero", b"/proc/self/mem", b"x\0y", b"=1+1", b"happiness", b"\t",
)  # fmt: skip
"""What text formats stumble over, and the marks of binary ones."""

_DIGITS = re.compile(rb"-?\d+(?:\.\d+)?")


def _range(data: bytes, place: float, size: int) -> tuple[int, int]:
    start = min(len(data), int(place * (len(data) + 1)))
    return start, min(len(data), start + size)


def _flip(data: bytes, start: int, end: int, value: int) -> bytes:
    if start >= len(data):
        return data
    return data[:start] + bytes([data[start] ^ (1 << value % 8)]) + data[start + 1 :]


def _word(order: str, width: int) -> Callable[[bytes, int, int, int], bytes]:
    def put(data: bytes, start: int, end: int, value: int) -> bytes:
        number = NUMBERS[value % len(NUMBERS)] % 256**width
        return data[:start] + number.to_bytes(width, order) + data[start + width :]  # type: ignore[arg-type]

    return put


def _digits(data: bytes, start: int, end: int, value: int) -> bytes:
    found = _DIGITS.search(data, start)
    if found is None:
        return data
    words = [str(number).encode() for number in NUMBERS] + [b"1e999", b"NaN", b"-0.0", b"9" * 5000, b"x", b""]
    return data[: found.start()] + words[value % len(words)] + data[found.end() :]


KINDS: dict[str, Callable[[bytes, int, int, int], bytes]] = {
    "flip": _flip,
    "byte": lambda data, start, end, value: data[:start] + bytes([value % 256]) + data[start + 1 :],
    "cut": lambda data, start, end, value: data[:start] + data[end:],
    "end": lambda data, start, end, value: data[:start],
    "repeat": lambda data, start, end, value: data[:end] + data[start:end] * (1 + value % 8) + data[end:],
    "blank": lambda data, start, end, value: data[:start] + bytes(end - start) + data[end:],
    "insert": lambda data, start, end, value: data[:start] + TOKENS[value % len(TOKENS)] + data[start:],
    "replace": lambda data, start, end, value: data[:start] + TOKENS[value % len(TOKENS)] + data[end:],
    "move": lambda data, start, end, value: data[end:] + data[start:end] + data[:start],
    "big32": _word("big", 4),
    "little32": _word("little", 4),
    "big16": _word("big", 2),
    "little16": _word("little", 2),
    "digits": _digits,
}
_NAMES = tuple(KINDS)
LARGEST = 300_000
"""Bytes; edits that repeat do not grow a case beyond this."""


def apply(seed: bytes, edits: Sequence[Edit]) -> bytes:
    """The seed with all edits done, one after another."""
    for kind, place, size, value in edits:
        start, end = _range(seed, place, size)
        seed = KINDS[kind](seed, start, end, value)[:LARGEST]
    return seed


def random_edits(generator: random.Random) -> list[Edit]:
    """A few edits; often one, seldom many, and as often near the head of the file, where its structure is."""
    return [
        (
            generator.choice(_NAMES),
            generator.random() ** generator.choice((1, 3)),
            int(2 ** generator.uniform(0, 9)),
            generator.randrange(2**16),
        )
        for _ in range(1 + int(generator.expovariate(0.5)))
    ]


def drawn() -> st.SearchStrategy[list[Edit]]:
    """The same, as Hypothesis draws it."""
    one = st.tuples(
        st.sampled_from(_NAMES),
        st.floats(0, 1, allow_nan=False),
        st.integers(1, 512),
        st.integers(0, 2**16 - 1),
    )
    return st.lists(one, min_size=1, max_size=8)
