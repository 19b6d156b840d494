"""Orders of epochs without the crate (needs `blake3`): two whole ones of `EpochSampler::new(10, 42, 1, Order::Shuffled)`,
and the first ten places of two of `EpochSampler::new(100_000, 42, 1, Order::Shuffled)`.

Small: ChaCha8 keyed by BLAKE3 of (seed, stream, epoch), Fisher-Yates from the end, Lemire's bounded integers.
Large: a Feistel network on pairs of numbers below ceil(sqrt(length)), with eight keys from the same kind of generator.
"""
import math
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


def mix(z):
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = ((z ^ z >> shift) * factor) % 2**64
    return z ^ z >> 31


def keyed(length, seed, stream, epoch, places):
    context = "ama-data 2026 keyed epoch order v1"
    key = blake3.blake3(struct.pack("<3Q", seed, stream, epoch), derive_key_context=context)
    words = chacha8(key.digest())
    keys = [next(words) + (next(words) << 32) for _ in range(8)]
    side = math.isqrt(length - 1) + 1

    def once(index):
        l, r = divmod(index, side)
        for key in keys:
            l, r = r, (l + ((mix(r ^ key) >> 32) * side >> 32)) % side
        return l * side + r

    for place in range(places):
        index = once(place)
        while index >= length:
            index = once(index)
        yield index


print(order(10, 42, 1, 0), order(10, 42, 1, 1))
print(*(list(keyed(100_000, 42, 1, epoch, 10)) for epoch in (0, 1)))
