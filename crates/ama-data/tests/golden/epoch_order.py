"""The order of two epochs of `EpochSampler::new(10, 42, 1, Order::Shuffled)`, without the crate (needs `blake3`).

ChaCha8 keyed by BLAKE3 of (seed, stream, epoch), Fisher-Yates from the end, Lemire's bounded integers.
"""
import struct

import blake3


def chacha8(key):
    """32-bit words of the ChaCha8 keystream: 64-bit block counter from 0, nonce 0."""
    def rotl(x, n):
        return (x << n | x >> (32 - n)) & 0xFFFFFFFF

    constants = struct.unpack("<4I", b"expand 32-byte k")
    counter = 0
    while True:
        state = [*constants, *struct.unpack("<8I", key), counter & 0xFFFFFFFF, counter >> 32, 0, 0]
        x = state[:]
        for _ in range(4):
            for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                               (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
                for p, q, r, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                    x[p] = (x[p] + x[q]) & 0xFFFFFFFF
                    x[r] = rotl(x[r] ^ x[p], n)
        yield from ((u + v) & 0xFFFFFFFF for u, v in zip(x, state))
        counter += 1


def order(length, seed, stream, epoch):
    key = blake3.blake3(struct.pack("<3Q", seed, stream, epoch), derive_key_context="ama-data 2025 epoch order v1")
    words = chacha8(key.digest())
    indices = list(range(length))
    for i in range(length - 1, 0, -1):
        bound = i + 1
        while True:
            product = next(words) * bound
            if product & 0xFFFFFFFF >= (2**32 - bound) % bound:
                break
        j = product >> 32
        indices[i], indices[j] = indices[j], indices[i]
    return indices


print(order(10, 42, 1, 0), order(10, 42, 1, 1))
