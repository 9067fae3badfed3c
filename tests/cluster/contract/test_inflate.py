"""Content-Encoding: what was compressed comes back, what is cut, corrupt or a bomb does not."""

from __future__ import annotations

import gzip
import os
import zlib

import pytest
import zstandard

from cluster.contract.inflate import inflate
from cluster.errors import BodyTooLarge, BodyUnreadable, MediaTypeUnsupported

LIMITS = {"sent_max": 1 << 20, "inflated_max": 1 << 24, "ratio_max": 200}
TEXT = os.urandom(10_000).hex().encode() * 3
FORMS = {
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT[:7]) + gzip.compress(TEXT[7:]) + bytes(8),
    "deflate": zlib.compress(TEXT),
    "zstd": zstandard.compress(TEXT[:9]) + zstandard.compress(TEXT[9:]),
    "identity": TEXT,
}


@pytest.mark.parametrize("encoding", FORMS)
def test_a_body_comes_back_as_it_was(encoding: str) -> None:
    assert inflate(FORMS[encoding], encoding.upper(), **LIMITS) == TEXT
    assert inflate(memoryview(FORMS[encoding]), encoding, **LIMITS) == TEXT


def test_no_encoding_is_identity_and_raw_deflate_is_understood() -> None:
    assert inflate(TEXT, None, **LIMITS) == TEXT
    assert inflate(zlib.compress(TEXT)[2:-4], "deflate", **LIMITS) == TEXT


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_cut_corrupt_or_followed_body_is_unreadable(encoding: str) -> None:
    whole = FORMS[encoding]
    for body in (b"", whole[:-5], whole[: len(whole) // 2], whole + b"more", b"noise" * 10):
        with pytest.raises(BodyUnreadable):
            inflate(body, encoding, **LIMITS)


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "deflate"])
def test_a_bomb_is_refused(encoding: str) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress}[encoding]
    bomb = pack(bytes(1 << 26))
    with pytest.raises(BodyTooLarge):
        inflate(bomb, encoding, **LIMITS)
    with pytest.raises(BodyTooLarge):
        inflate(bomb, encoding, **{**LIMITS, "ratio_max": 10**9})


def test_a_body_over_the_limit_and_an_unknown_encoding_are_refused() -> None:
    with pytest.raises(BodyTooLarge):
        inflate(bytes(LIMITS["sent_max"] + 1), None, **LIMITS)
    for encoding in ("br", "gzip, gzip"):
        with pytest.raises(MediaTypeUnsupported):
            inflate(TEXT, encoding, **LIMITS)
