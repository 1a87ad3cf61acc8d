"""Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011), written in array operations that NumPy and CuPy share.

A number is a function of (seed, purpose, stream, position). Results therefore depend neither on the
order of calls nor on how streams and positions are divided among calls, and there is no generator
state to save. A stream is an environment; a position is the environment step times the numbers per
step, plus the index of the number in its step.
"""

from __future__ import annotations

import hashlib
from operator import index
from typing import Any

import numpy as np

__all__ = ["key_of", "normal", "philox", "random_bits", "uniform"]

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def key_of(seed: int, purpose: str) -> tuple[int, int]:
    """Return the Philox key (two 32-bit words) of a run's seed and the purpose of the numbers."""
    seed = index(seed)
    if seed < 0:
        raise ValueError(f"philox: the seed must be 0 or more, got {seed}")
    digest = hashlib.blake2b(f"{seed}|{purpose}".encode(), digest_size=8, person=b"philox").digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def philox(counter: Any, key: tuple[int, int], xp: Any = np) -> Any:
    """Encrypt counters: uint32 [4, B] (or anything that casts to it) to random uint32 [4, B].

    ``key`` is two 32-bit words. Equal counters give equal blocks, on every array library.
    """
    counter = xp.asarray(counter).astype(xp.uint64)
    multiplier = xp.asarray(_MULTIPLIERS, dtype=xp.uint64).reshape(2, 1)
    low, shift = xp.uint64(_LOW), xp.uint64(32)
    # One round: words 0 and 2 are multiplied to 64 bits; the high halves are mixed with words 1, 3 and the key, the low
    # halves become words 1 and 3. Both pairs are rows of one array, so a round is five array operations.
    even, odd = counter[0::2], counter[1::2]
    for i in range(_ROUNDS):
        words = [(key[j] + i * _WEYL[j]) & _LOW for j in range(2)]
        product = even * multiplier
        even = (product[::-1] >> shift) ^ odd ^ xp.asarray(words, dtype=xp.uint64).reshape(2, 1)
        odd = product[::-1] & low
    blocks = xp.stack((even[0], odd[0], even[1], odd[1]))
    return blocks.astype(xp.uint32)


def random_bits(
    seed: int,
    purpose: str,
    streams: Any,
    first_step: int,
    num_steps: int,
    size: int,
    xp: Any = np,
) -> Any:
    """Return uint32 [T, N, size]: ``size`` numbers for each of T consecutive steps of N streams.

    ``streams`` are N integers below 2**32 (environment ids); steps run from ``first_step``. Number j
    of step t is element ``t * size + j`` of its stream, four elements to a block.
    """
    return _by_step(_blocks(seed, purpose, streams, first_step, num_steps, size, xp), first_step, num_steps, size)


def uniform(
    seed: int,
    purpose: str,
    streams: Any,
    first_step: int,
    num_steps: int,
    size: int,
    xp: Any = np,
    *,
    open: bool = False,
) -> Any:
    """Return float32 [T, N, size] uniform on [0, 1), or on (0, 1) with ``open=True``.

    The half-open form has 24 random bits, the open form 23 (the midpoints of 2**23 equal cells).
    Arguments as in `random_bits`.
    """
    bits = random_bits(seed, purpose, streams, first_step, num_steps, size, xp)
    if open:
        return ((bits >> xp.uint32(9)).astype(xp.float32) + xp.float32(0.5)) * xp.float32(2.0**-23)
    return (bits >> xp.uint32(8)).astype(xp.float32) * xp.float32(2.0**-24)


def normal(
    seed: int,
    purpose: str,
    streams: Any,
    first_step: int,
    num_steps: int,
    size: int,
    xp: Any = np,
) -> Any:
    """Return float32 [T, N, size] standard normal numbers (Box and Muller, 1958), at most 6.8 in size.

    Arguments as in `random_bits`. A block of four words makes two pairs.
    """
    blocks = _blocks(seed, purpose, streams, first_step, num_steps, size, xp)
    # 32 random bits under the logarithm: (0, 1], the tail ends at sqrt(2 * 33 log 2).
    u = (blocks[0::2].astype(xp.float32) + xp.float32(0.5)) * xp.float32(2.0**-32)
    angle = blocks[1::2].astype(xp.float32) * xp.float32(2.0**-32 * 2.0 * np.pi)
    radius = xp.sqrt(xp.float32(-2.0) * xp.log(u))
    pairs = xp.stack((radius * xp.cos(angle), radius * xp.sin(angle)), axis=1)  # [2, 2, N, blocks]
    return _by_step(pairs.reshape(blocks.shape), first_step, num_steps, size)


def _blocks(seed: int, purpose: str, streams: Any, first_step: int, num_steps: int, size: int, xp: Any) -> Any:
    """Return all blocks that hold elements of the requested steps: uint32 [4, N, blocks]."""
    if first_step < 0 or num_steps < 0 or size < 0:
        raise ValueError(
            f"philox: first_step, num_steps and size must be 0 or more, got {first_step}, {num_steps} and {size}"
        )
    ids = xp.asarray(streams).astype(xp.uint64).reshape(-1, 1)
    first, stop = first_step * size // 4, -(-(first_step + num_steps) * size // 4)
    block = xp.arange(first, stop, dtype=xp.uint64).reshape(1, -1)
    shape = (ids.shape[0], stop - first)
    counter = xp.zeros((4, *shape), dtype=xp.uint64)
    # Counter words: block number (64 bits), stream number (64 bits)
    counter[0] = block & xp.uint64(_LOW)
    counter[1] = block >> xp.uint64(32)
    counter[2] = ids & xp.uint64(_LOW)
    counter[3] = ids >> xp.uint64(32)
    return philox(counter.reshape(4, -1), key_of(seed, purpose), xp).reshape(4, *shape)


def _by_step(blocks: Any, first_step: int, num_steps: int, size: int) -> Any:
    """Return the elements of the requested steps, contiguous [T, N, size], from blocks [4, N, blocks]."""
    num_streams = blocks.shape[1]
    # [4, N, blocks] -> [N, 4 * blocks]: four consecutive elements of a stream per block
    flat = blocks.transpose(1, 2, 0).reshape(num_streams, 4 * blocks.shape[2])
    skip = first_step * size % 4
    flat = flat[:, skip : skip + num_steps * size]
    return flat.reshape(num_streams, num_steps, size).transpose(1, 0, 2).copy()
