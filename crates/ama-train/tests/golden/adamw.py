#!/usr/bin/env python3
"""Golden values for AdamW with clipping, from PyTorch. Run: python adamw.py > adamw.json

Two parameters: a matrix (decayed) and a vector (not decayed, as `transformers` does for norms); the gradient of step t is
a fixed formula, so that the Rust test can make the same one; learning rate 1e-2 * (1 + t)."""
import json
import torch

torch.manual_seed(0)
w = torch.nn.Parameter(torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]]))
b = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
opt = torch.optim.AdamW([dict(params=[w], weight_decay=0.1), dict(params=[b], weight_decay=0.0)], lr=1e-2, betas=(0.9, 0.98), eps=1e-8)
out = []
for t in range(6):
    for g in opt.param_groups:
        g["lr"] = 1e-2 * (1 + t)
    w.grad = torch.tensor([[((3 * i + 7 * t) % 5 - 2) * 0.5 for i in range(3)], [((5 * i + 3 * t) % 7 - 3) * 0.25 for i in range(3)]])
    b.grad = torch.tensor([0.1 * (t - 2), 0.0])
    norm = torch.nn.utils.clip_grad_norm_([w, b], 1.0)
    opt.step()
    out.append(dict(norm=float(norm), w=w.detach().flatten().tolist(), b=b.detach().tolist()))
print(json.dumps(dict(torch=torch.__version__, steps=out), indent=1))
