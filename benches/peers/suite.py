"""The suite's tiny Llama as one writes it for speed in PyTorch: QKV and gate/up as one product each, the head
on completion tokens only, sequences of like length padded together, fused AdamW."""

import itertools
import json
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

from measure import StepLog
from pairs import batches


class Block(nn.Module):
    """One decoder layer: `x + attention(norm(x))`, then `x + mlp(norm(x))`."""

    def __init__(self, weights, layer, heads, eps):
        super().__init__()
        weight = lambda name: weights[f"model.layers.{layer}.{name}.weight"]
        of = lambda *names: nn.Parameter(torch.cat([weight(name) for name in names]))
        self.heads, self.eps = heads, eps
        self.norm1, self.norm2 = of("input_layernorm"), of("post_attention_layernorm")
        self.qkv = of("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        self.out = of("self_attn.o_proj")
        self.gate_up, self.down = of("mlp.gate_proj", "mlp.up_proj"), of("mlp.down_proj")

    def forward(self, x, cos, sin):
        batch, length, width = x.shape
        half = width // self.heads // 2
        norm = lambda x, w: F.rms_norm(x, (width,), w, self.eps)
        qkv = F.linear(norm(x, self.norm1), self.qkv)
        q, k, v = qkv.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = (t * cos + torch.cat((-t[..., half:], t[..., :half]), -1) * sin for t in (q, k))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + F.linear(mixed.transpose(1, 2).reshape(batch, length, width), self.out)
        gate, up = F.linear(norm(x, self.norm2), self.gate_up).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.down)


class Llama(nn.Module):
    """A folder's weights; as many key heads as heads, tied embeddings."""

    def __init__(self, folder):
        super().__init__()
        from safetensors.torch import load_file

        with open(os.path.join(folder, "config.json")) as file:
            config = json.load(file)
        weights = load_file(os.path.join(folder, "model.safetensors"))
        heads, width, eps = config["num_attention_heads"], config["hidden_size"], config["rms_norm_eps"]
        self.eps = eps
        self.embedding = nn.Parameter(weights["model.embed_tokens.weight"])
        self.norm = nn.Parameter(weights["model.norm.weight"])
        layers = range(config["num_hidden_layers"])
        self.blocks = nn.ModuleList(Block(weights, layer, heads, eps) for layer in layers)
        size = width // heads
        frequencies = 10000.0 ** (-torch.arange(0, size, 2) / size)
        angles = torch.outer(torch.arange(128.0), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def logps(self, sequences, groups):
        """Log-probabilities of the answers of `(prompt, answer)`, in `groups` of like length."""
        by_length = sorted(range(len(sequences)), key=lambda i: sum(map(len, sequences[i])))
        size = -(-len(by_length) // groups)
        total = torch.zeros(len(sequences))
        for start in range(0, len(by_length), size):
            part = by_length[start : start + size]
            longest = sum(map(len, sequences[part[-1]]))
            ids = torch.zeros(len(part), longest, dtype=torch.long)
            rows, columns, owners, targets = [], [], [], []
            for row, i in enumerate(part):
                prompt, answer = sequences[i]
                ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
                rows += [row] * len(answer)
                columns += range(len(prompt) - 1, len(prompt) + len(answer) - 1)
                owners += [i] * len(answer)
                targets += answer
            x = F.embedding(ids[:, :-1], self.embedding)
            for block in self.blocks:
                x = block(x, self.cos[: longest - 1], self.sin[: longest - 1])
            x = F.rms_norm(x[rows, columns], (x.shape[-1],), self.norm, self.eps)
            logits = F.linear(x, self.embedding)
            logps = -F.cross_entropy(logits, torch.tensor(targets), reduction="none")
            total = total.index_add(0, torch.tensor(owners), logps)
        return total


def read(path, tokenizer_folder, answers, limit):
    """Rows of `(prompt ids, answer ids)`, one for each answer column; an answer ends with the end token."""
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.path.join(tokenizer_folder, "tokenizer.json"))
    ids = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    split = lambda prompt, answer: (prompt, ids(answer) + ids("<|eos|>"))
    rows = pq.read_table(path).slice(0, limit).to_pylist()
    return [[split(ids(row["prompt"]), row[answer]) for answer in answers] for row in rows]


def train(a, answers, loss_of):
    """`loss_of(model, rows of the batch)` under fused AdamW, in file order."""
    model = Llama(a.model)
    rows = read(a.data, a.model, answers, a.limit)
    settings = dict(lr=a.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    optimiser = torch.optim.AdamW(model.parameters(), **settings)
    loss = loss_of(model, rows)

    def step(part):
        value = loss(part)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return value.detach()

    log = StepLog()
    for part in itertools.islice(batches(rows, a.batch), a.steps):
        tokens = sum(len(prompt) + len(answer) for row in part for prompt, answer in row)
        log.timed(lambda: step(part), tokens)
    return log.done()


def sft(a):
    """Mean negative log-likelihood of the completion tokens."""

    def loss_of(model, rows):
        def loss(part):
            sequences = [row[0] for row in part]
            return -model.logps(sequences, 1).sum() / sum(len(answer) for _, answer in sequences)

        return loss

    return train(a, ["completion"], loss_of)


def dpo(a):
    """`-log sigmoid(beta * margin) - sft_weight * log pi(chosen) / tokens`, the mean over pairs."""

    def loss_of(model, rows):
        flat = lambda part: [sequence for row in part for sequence in row]
        with torch.no_grad():
            logps = model.logps(flat(rows), 1 + len(rows) // 32).view(-1, 2)
        reference = {id(row): logp for row, logp in zip(rows, logps)}

        def loss(part):
            chosen, rejected = model.logps(flat(part), 3).view(-1, 2).unbind(1)
            old_chosen, old_rejected = torch.stack([reference[id(row)] for row in part]).unbind(1)
            margin = a.beta * ((chosen - old_chosen) - (rejected - old_rejected))
            lengths = torch.tensor([float(len(row[0][1])) for row in part])
            return (F.softplus(-margin) - a.sft_weight * chosen / lengths).mean()

        return loss

    return train(a, ["chosen", "rejected"], loss_of)
