"""Field-coded pictures of H.264: each of the two fields of a picture may have a packet of its own.

The bits are read as ITU-T H.264 describes them, in sections 7.3.2.1 (SPS), 7.3.2.2 (PPS) and 7.3.3 (slices).
Only files with a sequence that may be interlaced cost time: the header of the file tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_SLICE, _SLICE_A, _IDR, _SPS, _PPS = 1, 2, 5, 7, 8
_SLICES = frozenset({_SLICE, _SLICE_A, _IDR})
_WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 134, 135, 138, 139})  # profiles
_HEAD_BYTES = 4096  # of a unit: more than the parameters before the values that are read here
_SLICE_BYTES = 64


class _Sequence(NamedTuple):
    """What an SPS says about the slices of its sequence."""

    frame_num_bits: int
    separate_planes: bool
    frames_only: bool


class _Field(NamedTuple):
    frame_num: int
    bottom: bool


class FieldPairs:
    """Tells, packet by packet in decoding order, which packets complete the picture of the one before.

    Args:
        extradata: the header of the stream: avcC of ISO 14496-15, or units with start codes; b"" if none.
    """

    def __init__(self, extradata: bytes) -> None:
        self._length_bytes = 0  # of the number before a unit; 0: units have start codes
        self._sequences: dict[int, _Sequence] = {}
        self._sequence_of_pps: dict[int, int] = {}
        self._first: _Field | None = None  # a field whose picture may be completed by the next packet
        try:
            if extradata[:1] == b"\1":
                self._length_bytes = (extradata[4] & 3) + 1
                for unit in _avcc_units(extradata):
                    self._read_parameters(unit)
            else:
                for unit in self._units(extradata):
                    self._read_parameters(unit)
        except (LookupError, ValueError):  # damaged: the decoder will tell
            pass

    @property
    def is_half(self) -> bool:
        """Whether the packet before holds the first field of a picture, and nothing else."""
        return self._first is not None

    def is_second_field(self, packet: bytes) -> bool:
        """Whether a packet holds the second field of a picture, and nothing else."""
        if self._sequences and all(sequence.frames_only for sequence in self._sequences.values()):
            return False
        try:
            fields = set(self._fields(packet))
        except (LookupError, ValueError):
            fields = set()
        first, self._first = self._first, None
        if len(fields) != 1 or (field := fields.pop()) is None:
            return False  # a frame, both fields, or no picture
        if first == field._replace(bottom=not field.bottom):
            return True
        self._first = field
        return False

    def _fields(self, packet: bytes) -> Iterator[_Field | None]:
        """The field of each slice in a packet; None for slices of frames."""
        for unit in self._units(packet):
            kind = unit[0] & 31
            if kind in _SLICES:
                yield self._field_of(unit)
            else:
                self._read_parameters(unit)

    def _field_of(self, unit: bytes) -> _Field | None:
        bits = _Bits(unit[1:_SLICE_BYTES])
        bits.unsigned()  # first_mb_in_slice
        bits.unsigned()  # slice_type
        sequence = self._sequences[self._sequence_of_pps[bits.unsigned()]]
        if sequence.frames_only:
            return None
        bits.read(2 if sequence.separate_planes else 0)
        frame_num = bits.read(sequence.frame_num_bits)
        return _Field(frame_num, bool(bits.read(1))) if bits.read(1) else None

    def _read_parameters(self, unit: bytes) -> None:
        kind = unit[0] & 31
        if kind == _SPS:
            number, sequence = _read_sps(_Bits(unit[1:_HEAD_BYTES]))
            self._sequences[number] = sequence
        elif kind == _PPS:
            bits = _Bits(unit[1:_SLICE_BYTES])
            self._sequence_of_pps[bits.unsigned()] = bits.unsigned()

    def _units(self, data: bytes) -> Iterator[bytes]:
        """The first bytes of each unit that is not empty."""
        position = 0
        while self._length_bytes and position + self._length_bytes < len(data):
            start = position + self._length_bytes
            position = start + int.from_bytes(data[position:start], "big")
            if position > start:
                yield data[start : min(position, start + _HEAD_BYTES)]
        if not self._length_bytes:
            start = data.find(b"\0\0\1") + 3
            while 3 <= start < len(data):
                following = data.find(b"\0\0\1", start)
                end = following if following >= 0 else len(data)
                if end > start:
                    yield data[start : min(end, start + _HEAD_BYTES)]
                start = following + 3


def _avcc_units(extradata: bytes) -> Iterator[bytes]:
    """The SPS and PPS units in an avcC header."""
    position = 5
    for mask in (31, 255):
        count = extradata[position] & mask
        position += 1
        for _ in range(count):
            length = int.from_bytes(extradata[position : position + 2], "big")
            yield extradata[position + 2 : position + 2 + length]
            position += 2 + length


def _read_sps(bits: _Bits) -> tuple[int, _Sequence]:
    """The number of an SPS, and what it says."""
    profile = bits.read(24) >> 16
    number = bits.unsigned()
    separate_planes = False
    if profile in _WITH_CHROMA:
        chroma = bits.unsigned()
        separate_planes = chroma == 3 and bool(bits.read(1))
        bits.unsigned()  # bit_depth_luma_minus8
        bits.unsigned()  # bit_depth_chroma_minus8
        bits.read(1)
        if bits.read(1):
            for i in range(12 if chroma == 3 else 8):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if i < 6 else 64)
    frame_num_bits = bits.unsigned() + 4
    order = bits.unsigned()  # pic_order_cnt_type
    if order == 0:
        bits.unsigned()
    elif order == 1:
        bits.read(1)
        bits.unsigned()  # two signed numbers: as long as unsigned ones
        bits.unsigned()
        for _ in range(bits.unsigned()):
            bits.unsigned()
    bits.unsigned()  # max_num_ref_frames
    bits.read(1)
    bits.unsigned()  # width and height
    bits.unsigned()
    return number, _Sequence(frame_num_bits, separate_planes, bool(bits.read(1)))


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.unsigned()
            following = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
        last = following or last


class _Bits:
    """Reads the bits of a unit, without the bytes that prevent start codes in it.

    Raises:
        ValueError: the unit has no more bits.
    """

    def __init__(self, unit: bytes) -> None:
        data = unit.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        """A number of `count` bits."""
        if count > self._left:
            raise ValueError("no more bits")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def unsigned(self) -> int:
        """A number in Exp-Golomb code (section 9.1)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)
