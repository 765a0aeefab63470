r"""Archives: a compressed file with what is needed to get it back and to know that it is whole.

An archive begins with a header of 23 bytes, numbers with the highest byte first:

======  =====  ==============================================================
Offset  Bytes  Content
======  =====  ==============================================================
0       4      ``SQBK``
4       1      version of the format, 1
5       1      method: 0 stored as it is, 1 ``standard``, 2 ``full``, 3 ``network``
6       1      bits of a symbol: 7 if all bytes are below 128, else 8
7       8      length of the file in bytes
15      4      CRC-32 of the file
19      4      CRC-32 of the header up to here
======  =====  ==============================================================

Then come the coded bits (see ``arithmetic_coding``): the bytes of the file, and after every 16,384
of them and after the last one a check, the low 16 bits of the CRC-32 of all bytes so far, each
coded with probability one half. A decoder whose predictions differ from the encoder's notices it at
the next check. A file that the model makes no smaller is stored as it is.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from seqbook.compression.arithmetic_coding import (
    ArithmeticDecoder,
    ArithmeticEncoder,
    OutOfDataError,
)
from seqbook.compression.predictor import SETTINGS, Predictor
from seqbook.validation import check_choice, check_instance

__all__ = [
    "BLOCK",
    "MAGIC",
    "VERSION",
    "DamagedArchiveError",
    "Header",
    "compress",
    "decode",
    "decompress",
    "encode",
    "read_header",
]

MAGIC = b"SQBK"
"""The first bytes of an archive."""

VERSION = 1
"""Version of the format."""

BLOCK = 1 << 14
"""Bytes between two checks."""

_CHECK_BITS = 16
_CHECK = (1 << _CHECK_BITS) - 1
_FIELDS = struct.Struct(">4sBBBQI")
_HEADER_CHECK = struct.Struct(">I")
_METHODS = ("stored", *SETTINGS)


class DamagedArchiveError(ValueError):
    """An archive is not what ``compress`` wrote.

    Example:
        >>> decompress(b"SQBK")
        Traceback (most recent call last):
        seqbook.compression.archive.DamagedArchiveError: archive: expected at least 23 bytes, got 4
    """


class Header(NamedTuple):
    """What an archive says of itself.

    Attributes:
        method: ``"stored"`` or a name in ``SETTINGS``.
        symbol_bits: Bits of a byte that are coded, 7 or 8.
        length: Length of the file in bytes.
        checksum: CRC-32 of the file.

    Example:
        >>> read_header(compress(b"a"))
        Header(method='stored', symbol_bits=7, length=1, checksum=3904355907)
    """

    method: str
    symbol_bits: int
    length: int
    checksum: int

    def pack(self) -> bytes:
        """Return the header's 23 bytes."""
        method = _METHODS.index(self.method)
        fields = _FIELDS.pack(MAGIC, VERSION, method, self.symbol_bits, self.length, self.checksum)
        return fields + _HEADER_CHECK.pack(zlib.crc32(fields))


HEADER_LENGTH = _FIELDS.size + _HEADER_CHECK.size


def read_header(archive: bytes) -> Header:
    r"""Read and check the header of an archive.

    Raises:
        DamagedArchiveError: It is no archive, too short, of another version, or damaged.

    Example:
        >>> read_header(b"PK" + bytes(30))
        Traceback (most recent call last):
        seqbook.compression.archive.DamagedArchiveError: archive: expected b'SQBK' at its start, got
        b'PK\x00\x00'
    """
    if archive[: len(MAGIC)] != MAGIC[: len(archive)] or not archive:
        start = archive[: len(MAGIC)]
        raise DamagedArchiveError(f"archive: expected {MAGIC!r} at its start, got {start!r}")
    if len(archive) < HEADER_LENGTH:
        raise DamagedArchiveError(
            f"archive: expected at least {HEADER_LENGTH} bytes, got {len(archive)}"
        )
    _, version, method, symbol_bits, length, checksum = _FIELDS.unpack_from(archive)
    if version != VERSION:
        raise DamagedArchiveError(f"archive: expected version {VERSION}, got {version}")
    (expected,) = _HEADER_CHECK.unpack_from(archive, _FIELDS.size)
    found = zlib.crc32(archive[: _FIELDS.size])
    if found != expected or method >= len(_METHODS):
        raise DamagedArchiveError(
            f"archive: the header is damaged: CRC-32 {found:08x}, expected {expected:08x}"
        )
    return Header(_METHODS[method], symbol_bits, length, checksum)


def encode(data: bytes, predictor: Predictor, *, symbol_bits: int) -> Iterator[bytes]:
    r"""Yield the coded bits of ``data``, block by block.

    The ideal length is :math:`-\sum_t \log_2 p_t` bits, where :math:`p_t` is the probability that
    the predictor gives to the bit that comes.

    Args:
        data: Bytes, below 128 if ``symbol_bits`` is 7.
        predictor: A new model; it learns ``data``.
        symbol_bits: 7 or 8.

    Example:
        >>> model = Predictor(SETTINGS["standard"], length=800, symbol_bits=7)
        >>> sum(map(len, encode(b"abracadabra " * 66, model, symbol_bits=7)))
        14
    """
    encoder = ArithmeticEncoder()
    shifts = range(symbol_bits - 1, -1, -1)
    predict, update, write = predictor.predict, predictor.update, encoder.encode
    checksum = 0
    for start in range(0, len(data), BLOCK):
        block = data[start : start + BLOCK]
        for byte in block:
            for shift in shifts:
                bit = byte >> shift & 1
                write(bit, predict())
                update(bit)
        checksum = zlib.crc32(block, checksum)
        encoder.encode_evenly(checksum & _CHECK, _CHECK_BITS)
        if start + BLOCK < len(data):
            yield bytes(encoder.output)
            encoder.output.clear()
    encoder.finish()
    yield bytes(encoder.output)


def decode(coded: bytes, predictor: Predictor, *, length: int, symbol_bits: int) -> Iterator[bytes]:
    """Yield the bytes that ``encode`` coded, block by block, each after its check.

    Args:
        coded: All coded bits.
        predictor: A new model, equal to the encoder's.
        length: Number of bytes to decode.
        symbol_bits: 7 or 8.

    Raises:
        DamagedArchiveError: A check fails, or the bits end too early or too late.

    Example:
        >>> def model():
        ...     return Predictor(SETTINGS["standard"], length=5, symbol_bits=7)
        >>> coded = b"".join(encode(b"hello", model(), symbol_bits=7))
        >>> list(decode(coded, model(), length=5, symbol_bits=7))
        [b'hello']
    """
    try:
        yield from _decode(coded, predictor, length, symbol_bits)
    except OutOfDataError:
        raise DamagedArchiveError(
            f"archive: cut off or damaged: its {len(coded):,} bytes of coded bits end too early"
        ) from None


def _decode(coded: bytes, predictor: Predictor, length: int, symbol_bits: int) -> Iterator[bytes]:
    decoder = ArithmeticDecoder(coded)
    predict, update, read = predictor.predict, predictor.update, decoder.decode
    checksum = 0
    for start in range(0, length, BLOCK):
        block = bytearray()
        for _ in range(min(BLOCK, length - start)):
            byte = 0
            for _ in range(symbol_bits):
                bit = read(predict())
                update(bit)
                byte = byte << 1 | bit
            block.append(byte)
        checksum = zlib.crc32(block, checksum)
        if decoder.decode_evenly(_CHECK_BITS) != checksum & _CHECK:
            raise DamagedArchiveError(
                f"archive: damaged: wrong checksum after {start + len(block):,} bytes of the file"
            )
        yield bytes(block)
    if decoder.unread:
        raise DamagedArchiveError(f"archive: {decoder.unread:,} bytes too many at its end")


def compress(
    data: bytes, *, settings: str = "standard", progress: Callable[[int], object] | None = None
) -> bytes:
    """Return ``data`` as an archive.

    Args:
        data: Any bytes. A second is enough for a few thousand of them.
        settings: ``"standard"``; ``"full"``, with more than twice the contexts, which is slower and
            makes most files smaller; or ``"network"``, also with a GRU that learns from the file,
            which takes some ten times as long.
        progress: Called with the number of bytes that are done since the last call.

    Raises:
        TypeError: ``data`` are not bytes.
        ValueError: ``settings`` is none of the names.
        ArithmeticError: With ``"network"``, if this machine can't compute as others do.

    Example:
        >>> text = b"It was the best of times, it was the worst of times. " * 20
        >>> archive = compress(text)
        >>> len(text), len(archive)
        (1060, 58)
        >>> decompress(archive) == text
        True
    """
    check_instance("data", data, bytes, hint="Path(file).read_bytes()")
    check_choice("settings", settings, SETTINGS)
    symbol_bits = 7 if data.isascii() else 8
    header = Header(settings, symbol_bits, len(data), zlib.crc32(data))
    predictor = Predictor(SETTINGS[settings], length=len(data), symbol_bits=symbol_bits)
    blocks, done = [], 0
    for block in encode(data, predictor, symbol_bits=symbol_bits):
        blocks.append(block)
        if progress is not None:
            progress(min(BLOCK, len(data) - done))
        done = min(done + BLOCK, len(data))
    coded = b"".join(blocks)
    if len(coded) >= len(data):
        header, coded = header._replace(method="stored"), data
    return header.pack() + coded


def decompress(archive: bytes, *, progress: Callable[[int], object] | None = None) -> bytes:
    """Return the bytes that were compressed, exactly.

    Args:
        archive: What ``compress`` returned.
        progress: Called with the number of bytes that are done since the last call.

    Raises:
        TypeError: ``archive`` is not bytes.
        DamagedArchiveError: It is no archive, or not whole.
        ArithmeticError: It was written with a network, and this machine can't compute as others do.

    Example:
        >>> decompress(compress(b""))
        b''
    """
    check_instance("archive", archive, bytes, hint="Path(file).read_bytes()")
    header = read_header(archive)
    body = archive[HEADER_LENGTH:]
    if header.method == "stored":
        if len(body) != header.length:
            raise DamagedArchiveError(
                f"archive: expected {header.length:,} stored bytes, got {len(body):,}"
            )
        data = body
    else:
        predictor = Predictor(
            SETTINGS[header.method], length=header.length, symbol_bits=header.symbol_bits
        )
        blocks = []
        for block in decode(body, predictor, length=header.length, symbol_bits=header.symbol_bits):
            blocks.append(block)
            if progress is not None:
                progress(len(block))
        data = b"".join(blocks)
    if (found := zlib.crc32(data)) != header.checksum:
        raise DamagedArchiveError(
            f"archive: the file that came out is wrong: CRC-32 {found:08x}, expected "
            f"{header.checksum:08x}"
        )
    return data
