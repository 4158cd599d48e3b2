"""Random numbers of a clip."""

from __future__ import annotations

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio, odd


class Draws:
    """Uniform random numbers that depend on whole numbers only.

    The generator is SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
    A clip needs some five numbers. The seeding of a generator of NumPy takes more time than these.

    Args:
        keys: whole numbers, such as seed, epoch and number of the clip.
    """

    def __init__(self, *keys: int) -> None:
        self._state = 0
        for key in keys:
            self._state = _mixed(self._state + key + _GAMMA)

    def uniform(self) -> float:
        """A number from 0 to 1, without 1."""
        self._state = (self._state + _GAMMA) & _MASK
        return float(_mixed(self._state) >> 11) / (1 << 53)

    def below(self, end: int) -> int:
        """A whole number from 0 to `end` - 1."""
        return int(self.uniform() * end)


def _mixed(value: int) -> int:
    """The output function of SplitMix64."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
