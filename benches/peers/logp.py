"""The log-probability head and log-probabilities from given logits, in PyTorch and as TRL does the head."""

import torch
import torch.nn.functional as F

from measure import MIB, peak_rss_mib, reset_peak, rss_mib, seconds


def log_softmax(hidden, weight, target):
    """All logits, their log-softmax, gather."""
    return F.log_softmax(hidden @ weight.t(), -1).gather(-1, target[:, None])[:, 0]


def trl_chunked(hidden, weight, target):
    """TRL's chunked function with its own chunk size, asked for log-probabilities alone."""
    from trl.kernels import ChunkedLogProbFunction

    outputs = ("log_probs",)
    return ChunkedLogProbFunction.apply(hidden, weight, None, target, 1.0, 32768, None, 1.0, outputs)[0]


METHODS = dict(full=log_softmax, trl=trl_chunked)


def head(a):
    """Forward and backward of `[rows, hidden] x [vocab, hidden]^T`; memory beyond operands and gradients."""

    def operands(rows, hidden, vocab):
        return (
            torch.randn(rows, hidden, requires_grad=True),
            (0.02 * torch.randn(vocab, hidden)).requires_grad_(),
            torch.randint(0, vocab, (rows,)),
        )

    def step(h, w, t):
        h.grad = w.grad = None
        METHODS[a.method](h, w, t).mean().backward()

    step(*operands(8, 16, 32))  # what PyTorch loads late is not the head's memory
    h, w, t = operands(a.rows, a.hidden, a.vocab)
    reset_peak()
    before = rss_mib()
    times = seconds(lambda: step(h, w, t), a.repeat)
    gradients = 4 * (h.numel() + w.numel()) / MIB
    return dict(seconds=times, extra_mib=peak_rss_mib() - before - gradients)


def logits(a):
    """Log-softmax and gather of given logits `[rows, vocab]`: forward, with backward, and reading alone."""
    z = torch.randn(a.rows, a.vocab, requires_grad=True)
    t = torch.randint(0, a.vocab, (a.rows,))

    def forward():
        return F.log_softmax(z, -1).gather(-1, t[:, None])[:, 0]

    def forward_backward():
        z.grad = None
        forward().mean().backward()

    with torch.no_grad():
        forward_s = seconds(forward, a.repeat)
        read_s = seconds(z.sum, a.repeat)
    return dict(
        forward_s=forward_s,
        forward_backward_s=seconds(forward_backward, a.repeat),
        read_s=read_s,
        bytes=4 * z.numel(),
    )
