"""Files that were damaged at random."""

from __future__ import annotations

import random

INSERTED = (
    b'"',
    b"<exists>",
    b"-1",
    b"1e999",
    b"nan",
    b"\n",
    b";;",
    b",",
    b"0x1p3",
    b"\0",
    b"\xff\xfe",
    b"999999999999",
)


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """A file in which bytes are removed, inserted, replaced or repeated at up to four places, or that is cut."""
    found = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at, n = rng.randrange(len(found) + 1), rng.randint(1, 12)
        kind = rng.randrange(6)
        if kind == 0:
            del found[at : at + n]
        elif kind == 1:
            found[at:at] = rng.randbytes(n)
        elif kind == 2:
            found[at : at + 1] = rng.randbytes(1)
        elif kind == 3:
            found[at:at] = found[max(0, at - 20) : at]
        elif kind == 4:
            found[at:at] = rng.choice(INSERTED)
        elif at:
            del found[at:]
    return bytes(found)
