"""Noise in random access: a number for each integer, the same whenever it is asked for."""

from __future__ import annotations

import numpy as np

from zvt_crypto.sandbox.market import Array


def uniform(key: int, values: Array) -> Array:
    """A number in [0, 1) for each integer (the finaliser of SplitMix64); another key gives other numbers."""
    z = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(key & 0xFFFF_FFFF_FFFF_FFFF)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((z ^ (z >> np.uint64(31))) / 2.0**64)
