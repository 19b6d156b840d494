#!/usr/bin/env python3
"""Golden model folders and generations for tests/folder.rs and tests/generate.rs, made by `transformers`.

    python hf_folder.py            # rewrites hf_folder/ beside this file
    python hf_folder.py check DIR REFERENCE  # DIR, written by us, loads in transformers and equals REFERENCE

Made with torch 2.15, transformers 5.23. Every folder is what `save_pretrained` writes. Beside each folder NAME lies
NAME.f32: all parameters in our canonical order as little-endian f32, as `from_pretrained(dtype=float32)` reads them.
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

ROOT = Path(__file__).resolve().parent / "hf_folder"
SIZES = dict(hidden_size=16, intermediate_size=24, num_attention_heads=4, num_key_value_heads=2, vocab_size=40,
             max_position_embeddings=256, rms_norm_eps=1e-5, initializer_range=0.35, bos_token_id=0, eos_token_id=39)
LLAMA3 = dict(rope_type="llama3", rope_theta=50000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=3.0,
              original_max_position_embeddings=32)
LINEAR = dict(rope_type="linear", rope_theta=10000.0, factor=2.5)
FOLDERS = {  # name: (config, dtype, shard size)
    "tied_f32": (dict(num_hidden_layers=2, tie_word_embeddings=True), torch.float32, None),
    "untied_bf16": (dict(num_hidden_layers=1, tie_word_embeddings=False, head_dim=6), torch.bfloat16, None),
    "untied_f16": (dict(num_hidden_layers=2, tie_word_embeddings=False, rope_parameters=LLAMA3), torch.float16, None),
    "tied_bf16_sharded": (dict(num_hidden_layers=2, tie_word_embeddings=True, rope_parameters=LINEAR), torch.bfloat16, "3KB"),
}
PROMPTS = [[0], [1, 2, 3], [7, 7, 7, 7, 7, 7, 7, 7], [5, 30, 12, 0, 22], [9], list(range(1, 24))]
NEW_TOKENS = 24


def canonical(model):
    state = model.state_dict()
    names = ["model.embed_tokens"]
    for i in range(model.config.num_hidden_layers):
        names += [f"model.layers.{i}.{part}" for part in (
            "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
            "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")]
    names.append("model.norm")
    if not model.config.tie_word_embeddings:
        names.append("lm_head")
    return torch.cat([state[f"{n}.weight"].float().flatten() for n in names])


def make_folders():
    shutil.rmtree(ROOT, ignore_errors=True)
    generated = {}
    for seed, (name, (extra, dtype, shard)) in enumerate(FOLDERS.items()):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**SIZES, **extra))
        with torch.no_grad():  # norms other than one, so that a mix-up shows
            for key, p in model.named_parameters():
                if "norm" in key:
                    p.uniform_(0.5, 1.5)
        model.to(dtype).save_pretrained(ROOT / name, **({"max_shard_size": shard} if shard else {}))
        read = AutoModelForCausalLM.from_pretrained(ROOT / name, dtype=torch.float32).eval()
        (ROOT / f"{name}.f32").write_bytes(canonical(read).numpy().astype("<f4").tobytes())
        outputs = []
        for prompt in PROMPTS:
            ids = torch.tensor([prompt])
            with torch.no_grad():
                out = read.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS,
                                    do_sample=False, eos_token_id=39, pad_token_id=39)
                outputs.append(out[0, len(prompt):].tolist())
        generated[name] = outputs
    lines = ",\n".join(f"  {json.dumps(n)}: {json.dumps(o)}" for n, o in generated.items())
    (ROOT / "generate.json").write_text(
        f'{{"prompts": {json.dumps(PROMPTS)},\n "new_tokens": {NEW_TOKENS}, "eos": 39,\n "outputs": {{\n{lines}}}}}\n')


def make_rope():
    cases = []
    for rope in (dict(rope_type="default", rope_theta=500000.0), LINEAR, LLAMA3):
        config = LlamaConfig(**{**SIZES, "hidden_size": 64}, num_hidden_layers=1, rope_parameters=dict(rope))
        freq = LlamaRotaryEmbedding(config).inv_freq.double().tolist()
        cases.append({"config": config.to_dict(), "inv_freq": freq})
    (ROOT / "rope.json").write_text(json.dumps(cases, indent=1) + "\n")


def check(ours, reference):
    """Load a folder that we wrote; every tensor equals the reference folder's, and it computes the same."""
    a = AutoModelForCausalLM.from_pretrained(ours, dtype=torch.float32).eval()
    b = AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32).eval()
    assert torch.equal(canonical(a), canonical(b)), "weights differ"
    ids = torch.tensor([PROMPTS[-1]])
    with torch.no_grad():
        assert torch.equal(a(ids).logits, b(ids).logits), "logits differ"
    assert a.config.to_diff_dict() == b.config.to_diff_dict() or a.config.dtype != b.config.dtype, "config differs"
    print("equal")


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(*sys.argv[2:4])
    else:
        make_folders()
        make_rope()
