#!/usr/bin/env python3
"""Golden values of tests/golden.rs, from transformers' LlamaForCausalLM and torch's AdamW in f32 on the CPU.

    python crates/ama-model/tests/golden/llama.py        # needs torch, transformers, safetensors

writes llama.safetensors beside this file. Two models (tied; untied with head_dim != hidden / heads and Llama-3 rotary
scaling), three ragged preference pairs. Per model NAME the file holds
  NAME/config                      its config.json as bytes
  NAME/weight/PARAM                initial weights
  NAME/logits                      [tokens, vocab] of the first chosen sequence
  NAME/logps, NAME/reference       [6] summed completion log-probabilities: chosen_0, rejected_0, chosen_1, ...
  NAME/gradient/PARAM              of the mean DPO loss (beta 0.1) at the initial weights
  NAME/losses, NAME/norms          [10] loss and gradient norm (before clipping) of each AdamW step
  NAME/final/PARAM                 weights after 10 steps of AdamW (lr 1e-3, betas .9/.999, eps 1e-8, decay .01, clip 1)
and the pairs as pair/I/{prompt,chosen,rejected}.
"""
import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

COMMON = dict(vocab_size=61, hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5, attention_bias=False,
              mlp_bias=False, initializer_range=0.15, bos_token_id=0, eos_token_id=1)
MODELS = {
    "tied": dict(COMMON, tie_word_embeddings=True, rope_theta=10000.0),
    "untied": dict(COMMON, tie_word_embeddings=False, head_dim=12, rope_theta=500000.0, rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=64)),
}
LENGTHS = [(7, 5, 9), (1, 12, 1), (23, 2, 6)]  # prompt, chosen, rejected


def sequence_logp(model, prompt, completion):
    """sum of log p(completion | prompt), by log-softmax of whole logits"""
    ids = torch.tensor([prompt + completion])
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1:-1]
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(completion)[:, None]).sum()


def all_logps(model, pairs):
    return torch.stack([sequence_logp(model, p, c) for p, chosen, rejected in pairs for c in (chosen, rejected)])


def main():
    torch.manual_seed(20)
    torch.set_num_threads(1)
    pairs = [tuple(torch.randint(2, 61, (n,)).tolist() for n in lengths) for lengths in LENGTHS]
    out = {f"pair/{i}/{name}": torch.tensor(ids, dtype=torch.int32)
           for i, pair in enumerate(pairs) for name, ids in zip(("prompt", "chosen", "rejected"), pair)}
    for name, settings in MODELS.items():
        config = LlamaConfig(**settings)
        config._attn_implementation = "eager"
        model = LlamaForCausalLM(config).to(torch.float32).eval()
        with torch.no_grad():
            for key, p in model.named_parameters():
                if p.dim() == 1:
                    p += 0.2 * torch.randn_like(p)  # norms that are not all 1
        text = json.dumps(json.loads(config.to_json_string(use_diff=False)))
        out[f"{name}/config"] = torch.tensor(list(text.encode()), dtype=torch.uint8)
        put = lambda group, values: out.update({f"{name}/{group}/{k}": v.detach().clone() for k, v in values})
        put("weight", model.named_parameters())
        with torch.no_grad():
            prompt, chosen, _ = pairs[0]
            out[f"{name}/logits"] = model(input_ids=torch.tensor([prompt + chosen])).logits[0].clone()
            initial = {k: p.clone() for k, p in model.named_parameters()}
            generator = torch.Generator().manual_seed(4)
            for p in model.parameters():
                p += 0.02 * torch.randn(p.shape, generator=generator)
            reference = all_logps(model, pairs)
            for k, p in model.named_parameters():
                p.copy_(initial[k])
            out[f"{name}/logps"], out[f"{name}/reference"] = all_logps(model, pairs), reference
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
        losses, norms = [], []
        for step in range(10):
            ratio = (all_logps(model, pairs) - reference).view(-1, 2)
            loss = F.softplus(-0.1 * (ratio[:, 0] - ratio[:, 1])).mean()
            optimizer.zero_grad()
            loss.backward()
            if step == 0:
                put("gradient", ((k, p.grad) for k, p in model.named_parameters()))
            norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
            optimizer.step()
            losses.append(loss.item())
        out[f"{name}/losses"], out[f"{name}/norms"] = torch.tensor(losses), torch.tensor(norms)
        put("final", model.named_parameters())
        print(name, losses, norms)
    path = pathlib.Path(__file__).with_name("llama.safetensors")
    save_file({k: v.contiguous() for k, v in out.items()}, path)
    print(path.name, path.stat().st_size, "bytes")


main()
