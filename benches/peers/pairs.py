"""Preference pairs as padded batches, and the sequence log-probabilities of a Hugging Face model."""

import itertools

import torch
import torch.nn.functional as F


def read(path, limit):
    import pyarrow.parquet as pq

    columns = ["prompt_ids", "chosen_ids", "rejected_ids"]
    return pq.read_table(path, columns=columns).slice(0, limit).to_pylist()


def batches(rows, size):
    """Batches in file order, for ever."""
    turn = itertools.cycle(rows)
    while True:
        yield list(itertools.islice(turn, size))


class Batch:
    """Chosen of every pair, then rejected of every pair, padded on the right: `[2 pairs, longest]`."""

    def __init__(self, rows, pad):
        sides = [(r["prompt_ids"], r[side]) for side in ("chosen_ids", "rejected_ids") for r in rows]
        longest = max(len(prompt) + len(answer) for prompt, answer in sides)
        blank = [longest - len(prompt) - len(answer) for prompt, answer in sides]
        rows_of = lambda parts: torch.tensor([part + [filler] * n for part, n, filler in parts])
        self.ids = rows_of([(p + a, n, pad) for (p, a), n in zip(sides, blank)])
        self.attention = rows_of([([1] * len(p + a), n, 0) for (p, a), n in zip(sides, blank)])
        self.answer = rows_of([([0] * len(p) + [1] * len(a), n, 0) for (p, a), n in zip(sides, blank)])

    @staticmethod
    def tokens(rows):
        """Prompt + chosen and prompt + rejected: the prompt counts twice, padding never."""
        return sum(2 * len(r["prompt_ids"]) + len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in rows)


def sequence_logps(model, batch):
    """Log-probabilities of the answers, summed over their tokens: `(chosen [pairs], rejected [pairs])`."""
    logits = model(input_ids=batch.ids, attention_mask=batch.attention, use_cache=False).logits[:, :-1]
    logps = F.log_softmax(logits, -1).gather(-1, batch.ids[:, 1:, None]).squeeze(-1)
    return (logps * batch.answer[:, 1:]).sum(1).chunk(2)


def load(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
