"""Seeds derived from a run's seed by name, so that no two streams of a run, or of two runs, meet.

``seed + i`` makes environment 1 of run 0 and environment 0 of run 1 the same; a hash of
(seed, purpose, indices) does not, and needs no state to be saved.
"""

from __future__ import annotations

import hashlib
from operator import index

__all__ = ["derive_seed"]


def derive_seed(seed: int, purpose: str, *indices: int, bits: int = 32) -> int:
    """Return the seed of one stream: a stable hash of (seed, purpose, indices), below ``2**bits``.

    ``purpose`` names what the stream is for ("reset", "minibatch"), ``indices`` say which one of its
    kind (environment, episode). The same arguments give the same number on every machine and in
    every process. 32 bits by default, since many environments hand their seed to generators that
    take no more; at most 64. Raises ValueError for a negative seed, TypeError for one that is no int.
    """
    if not 1 <= bits <= 64:
        raise ValueError(f"derive_seed: bits must lie between 1 and 64, got {bits}")
    seed = index(seed)
    if seed < 0:
        raise ValueError(f"derive_seed: the seed must be 0 or more, got {seed}")
    text = f"{seed}|{','.join(str(index(i)) for i in indices)}|{purpose}"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - bits)
