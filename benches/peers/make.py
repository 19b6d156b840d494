"""Inputs that both sides read: random Llama folders and Parquet files. Every call makes the same."""

import os
import random
import shutil

# Llama shapes. `135m` is SmolLM2-135M's. Both tie their embeddings.
SHAPES = {
    "10m": dict(
        hidden_size=256, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=4,
        intermediate_size=688, vocab_size=4096,
    ),
    "135m": dict(
        hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        intermediate_size=1536, vocab_size=49152,
    ),
}
END, PAD = 0, 1
# Ids of the pairs: above the special tokens, within the smallest vocabulary.
FIRST_ID, LAST_ID = 2, 4095


def model(shape, out):
    """A random Llama folder, with a byte-level tokenizer that nobody calls: the pairs are token ids."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[shape], max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=10000.0,
        tie_word_embeddings=True, bos_token_id=END, eos_token_id=END, pad_token_id=PAD, use_cache=False,
    )
    LlamaForCausalLM(config).to(torch.float32).save_pretrained(out)
    tokens = ["<|end|>", "<|pad|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocab = {token: id for id, token in enumerate(tokens)}
    vocab.update({f"<{id}>": id for id in range(len(tokens), LAST_ID + 1)})
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|end|>", eos_token="<|end|>", pad_token="<|pad|>"
    ).save_pretrained(out)


def pairs(length, count, ragged, out):
    """`count` pairs of random ids. Fixed: prompt and completions take half of `length` each. Ragged: prompts
    take 1/8 to 1/2, completions 1/16 to what is left."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = random.Random(length)
    ids = lambda n: [draw.randint(FIRST_ID, LAST_ID) for _ in range(n)]
    columns = dict(prompt_ids=[], chosen_ids=[], rejected_ids=[])
    for _ in range(count):
        if ragged:
            prompt = draw.randint(length // 8, length // 2)
            chosen, rejected = (draw.randint(length // 16, length - prompt) for _ in range(2))
        else:
            prompt = length // 2
            chosen = rejected = length - prompt
        columns["prompt_ids"].append(ids(prompt))
        columns["chosen_ids"].append(ids(chosen - 1) + [END])
        columns["rejected_ids"].append(ids(rejected - 1) + [END])
    pq.write_table(pa.table({k: pa.array(v, pa.list_(pa.int32())) for k, v in columns.items()}), out)


def suite_model(suite, out):
    """The suite's 362k-parameter Llama with random weights, and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    base = os.path.join(suite, "base")
    LlamaForCausalLM(LlamaConfig.from_pretrained(base)).to(torch.float32).save_pretrained(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(os.path.join(base, name), out)


def suite_sft(suite, batch, batches, out):
    """The first rows of the suite's SFT corpus, sorted by length, the batches then shuffled: a batch holds
    rows of nearly one length, so that padding costs the peer little."""
    import pyarrow.parquet as pq

    table = pq.read_table(os.path.join(suite, "sft.parquet"), columns=["prompt", "completion"])
    rows = table.slice(0, batch * batches).to_pylist()
    order = sorted(rows, key=lambda row: len(row["prompt"].split()) + len(row["completion"].split()))
    groups = [order[i : i + batch] for i in range(0, len(order), batch)]
    random.Random(0).shuffle(groups)
    write_rows([row for group in groups for row in group], out)


def suite_dpo(suite, count, out):
    """The first pairs of the suite's tasks, in turn."""
    import pyarrow.parquet as pq

    folder = os.path.join(suite, "train")
    files = sorted(os.listdir(folder))
    columns = ["prompt", "chosen", "rejected"]
    tasks = [pq.read_table(os.path.join(folder, name), columns=columns) for name in files]
    tasks = [table.slice(0, -(-count // len(tasks))).to_pylist() for table in tasks]
    write_rows([row for turn in zip(*tasks) for row in turn][:count], out)


def write_rows(rows, out):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), out)


def whole_or_nothing(write, out):
    """`write(path)`, then the rename to `out`: what has the final name is complete."""
    partial = f"{out}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(os.path.dirname(out) or ".", exist_ok=True)
    write(partial)
    os.replace(partial, out)

