"""Seeds derived from a run's seed and a purpose, different for all random streams of all runs.

With ``seed + i``, environment 1 of run 0 and environment 0 of run 1 would be the same. A hash of (seed, purpose,
indices) has no such collisions, and no state to save.
"""

from __future__ import annotations

import hashlib
from operator import index

__all__ = ["derive_seed"]


def derive_seed(seed: int, purpose: str, *indices: int, bits: int = 32) -> int:
    """Return the seed of one stream: a stable hash of (seed, purpose, indices), below ``2**bits``.

    ``purpose`` is the use of the stream ("reset", "minibatch"), ``indices`` number the streams of one purpose
    (environment, episode). The same arguments give the same number on every machine and in every process. The default
    is 32 bits, as many environments pass their seed to generators that accept no more; the maximum is 64. Raises
    ValueError for a negative seed, TypeError for a seed that is not an int.
    """
    if not 1 <= bits <= 64:
        raise ValueError(f"derive_seed: bits must lie between 1 and 64, got {bits}")
    seed = index(seed)
    if seed < 0:
        raise ValueError(f"derive_seed: the seed must be 0 or more, got {seed}")
    text = f"{seed}|{','.join(str(index(i)) for i in indices)}|{purpose}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - bits)
