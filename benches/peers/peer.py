#!/usr/bin/env python3
"""The peers of `cargo xtask bench`, one task a call; prints one JSON object as its last line.

  peer.py about --requirements FILE             versions of the packages, and which are missing
  peer.py make-model --shape 10m --out DIR      also: make-pairs, make-suite-{model,sft,dpo}
  peer.py dpo --model DIR --data P.parquet --steps 8 --batch 8
                                                plain PyTorch; also: trl, score, suite-sft, suite-dpo
  peer.py head --rows 2048 --hidden 576 --vocab 49152 --method full
                                                also: logits
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import sys


def about(a):
    wanted = dict(line.strip().split("==") for line in open(a.requirements) if "==" in line)
    found = {}
    for name in wanted:
        try:
            found[name] = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            pass
    return dict(
        date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        python=sys.version.split()[0],
        versions=found,
        missing=[f"{name}=={version}" for name, version in wanted.items() if found.get(name) != version],
    )


def make(task, a):
    import make

    write = {
        "make-model": lambda path: make.model(a.shape, path),
        "make-pairs": lambda path: make.pairs(a.length, a.pairs, a.ragged, path),
        "make-suite-model": lambda path: make.suite_model(a.suite, path),
        "make-suite-sft": lambda path: make.suite_sft(a.suite, a.batch, a.batches, path),
        "make-suite-dpo": lambda path: make.suite_dpo(a.suite, a.pairs, path),
    }[task]
    make.whole_or_nothing(write, a.out)
    return dict(out=a.out)


def run(task, a):
    """A measurement: PyTorch with `a.threads` threads and fixed seeds."""
    import warnings

    import torch

    warnings.filterwarnings("ignore")
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)

    import dpo
    import logp
    import suite
    import trl_dpo

    tasks = {
        "dpo": dpo.dpo,
        "trl": trl_dpo.dpo,
        "score": dpo.score,
        "head": logp.head,
        "logits": logp.logits,
        "suite-sft": suite.sft,
        "suite-dpo": suite.dpo,
    }
    return tasks[task](a)


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task")
    for name in ("requirements", "out", "shape", "suite", "model", "data", "method"):
        parser.add_argument(f"--{name}")
    for name, default in dict(
        length=256, pairs=64, batch=8, batches=8, steps=8, limit=None, repeat=5, threads=1,
        rows=2048, hidden=576, vocab=49152,
    ).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in {"lr": 1e-6, "beta": 0.1, "sft-weight": 0.0}.items():
        parser.add_argument(f"--{name}", type=float, default=default)
    parser.add_argument("--ragged", action="store_true")
    return parser.parse_args()


def main():
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    a = arguments()
    if a.task == "about":
        said = about(a)
    elif a.task.startswith("make-"):
        said = make(a.task, a)
    else:
        said = run(a.task, a)
    print(json.dumps(said))


if __name__ == "__main__":
    main()
