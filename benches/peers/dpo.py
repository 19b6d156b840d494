"""DPO and scoring in plain PyTorch: a Hugging Face model, padded batches, eager mode, f32."""

import itertools

import torch
import torch.nn.functional as F

from measure import StepLog, peak_rss_mib, seconds
from pairs import Batch, batches, load, read, sequence_logps


def dpo(a):
    """`a.steps` steps of AdamW (no decay, gradient norm clipped at 1) on `-log sigmoid(beta * margin)`."""
    rows, model = read(a.data, a.limit), load(a.model)
    pad = model.config.pad_token_id or 0
    reference = {}
    model.eval()
    with torch.no_grad():
        for start in range(0, len(rows), a.batch):
            part = rows[start : start + a.batch]
            chosen, rejected = sequence_logps(model, Batch(part, pad))
            reference.update({id(row): (c, r) for row, c, r in zip(part, chosen, rejected)})
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=a.lr, weight_decay=0.0, foreach=True)

    def step(part):
        chosen, rejected = sequence_logps(model, Batch(part, pad))
        old_chosen, old_rejected = map(torch.stack, zip(*(reference[id(row)] for row in part)))
        margin = a.beta * ((chosen - old_chosen) - (rejected - old_rejected))
        loss = -F.logsigmoid(margin).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    log = StepLog()
    for part in itertools.islice(batches(rows, a.batch), a.steps):
        log.timed(lambda: step(part), Batch.tokens(part))
    return log.done()


def score(a):
    """Passes over all pairs without gradients: what a reference or a specialist's cache costs."""
    rows, model = read(a.data, a.limit), load(a.model)
    pad = model.config.pad_token_id or 0
    model.eval()
    out = []

    def one_pass():
        out.clear()
        for start in range(0, len(rows), a.batch):
            out.append(torch.stack(sequence_logps(model, Batch(rows[start : start + a.batch], pad)), 1))

    with torch.inference_mode():
        times = seconds(one_pass, a.repeat, warm_up=1)
    return dict(
        seconds=times, tokens=Batch.tokens(rows), logps=torch.cat(out).tolist(), peak_rss_mib=peak_rss_mib()
    )
