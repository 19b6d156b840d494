"""Golden values for the preference losses, from TRL's own `DPOTrainer._compute_loss` in float64.

    python preference.py > preference.csv      (made with trl 1.16, torch 2.15)

The trainer and the model are stand-ins that only carry settings and per-token log-probabilities; the loss, its gradient
(autograd) and the rewards are TRL's. TRL 1.16 has no label smoothing in its `sigmoid` loss, but its `aot` loss on a
batch of one pair is exactly that; and on one pair its `sft` loss with weight gamma is `gamma * (-log pi(y+) / |y+|)`.
"""

import sys
import warnings
from collections import defaultdict
from types import SimpleNamespace

import torch

warnings.filterwarnings("ignore")
from trl.trainer.dpo_trainer import DPOTrainer  # noqa: E402


def evaluate(kind, smoothing, beta, gamma, chosen, rejected, ref_chosen, ref_rejected, n_chosen, n_rejected):
    width = max(n_chosen, n_rejected)
    logps = torch.zeros(2, width, dtype=torch.float64)
    mask = torch.zeros(2, width + 1, dtype=torch.long)
    for row, (total, n) in enumerate([(chosen, n_chosen), (rejected, n_rejected)]):
        logps[row, :n] = total / n
        logps[row, 0] += total - logps[row, :n].sum()
        mask[row, 1 : n + 1] = 1
    logps.requires_grad_(True)
    zeros = torch.zeros_like(logps).detach()
    outputs = SimpleNamespace(log_probs=logps, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())

    def model(**_):
        return outputs

    model.training = True
    names = {"sigmoid": "aot" if smoothing else "sigmoid"}
    types, weights = [names.get(kind, kind)], [1.0]
    if gamma:
        types, weights = types + ["sft"], weights + [gamma]
    trainer = SimpleNamespace(
        model=model,
        accelerator=SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=types,
        loss_weights=weights,
        beta=beta,
        label_smoothing=smoothing,
        use_weighting=False,
        args=SimpleNamespace(),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {
        "input_ids": torch.zeros(2, width + 1, dtype=torch.long),
        "attention_mask": torch.ones(2, width + 1, dtype=torch.long),
        "completion_mask": mask,
        "ref_chosen_logps": torch.tensor([ref_chosen], dtype=torch.float64),
        "ref_rejected_logps": torch.tensor([ref_rejected], dtype=torch.float64),
    }
    loss = DPOTrainer._compute_loss(trainer, model, inputs, return_outputs=False)
    loss.backward()
    # The gradient with respect to a sum is that of any of its terms.
    metrics = trainer._metrics["train"]
    return [
        loss.item(),
        logps.grad[0, 0].item(),
        logps.grad[1, 0].item(),
        metrics["rewards/chosen"][0],
        metrics["rewards/rejected"][0],
        metrics["rewards/margins"][0],
    ]


PAIRS = [
    (-20.0, -30.0, -22.5, -28.25, 7, 9),
    (-20.0, -30.0, -20.0, -30.0, 7, 9),  # margin 0
    (-41.5, -12.75, -30.25, -15.5, 31, 1),  # wrong way round
    (-1.0, -2.0, -3.5, -0.25, 1, 1),
    (-100.0, -20100.0, -100.0, -100.0, 50, 200),  # margin +2000 at beta 0.1
    (-20100.0, -100.0, -100.0, -100.0, 200, 50),  # margin -2000 at beta 0.1
]
KINDS = [("sigmoid", 0.0), ("sigmoid", 0.1), ("ipo", 0.0), ("hinge", 0.0), ("robust", 0.0), ("robust", 0.2)]

names = "kind smoothing beta gamma chosen rejected ref_chosen ref_rejected n_chosen n_rejected"
names += " loss d_chosen d_rejected reward_chosen reward_rejected margin"
print(",".join(names.split()))
for kind, smoothing in KINDS:
    for beta, gamma in [(0.1, 0.0), (0.5, 0.0), (0.1, 1.5)]:
        for pair in PAIRS:
            row = [kind, smoothing, beta, gamma, *pair, *evaluate(kind, smoothing, beta, gamma, *pair)]
            sys.stdout.write(",".join(x if isinstance(x, str) else repr(x) for x in row) + "\n")
