"""Makes the golden files of ama-merge with mergekit.

    python -m venv venv && venv/bin/pip install mergekit==0.1.5 blake3
    venv/bin/python make.py

writes, beside this script,

- inputs.safetensors: weights of tiny Llama folders, keys `folder/tensor`;
- expected.safetensors: for every case all merged weights as f32, tensors in the order of their names, one after the other;
- cases.json: for every case the mergekit configuration, in which `{folder}` stands for a path.

Of equal magnitudes mergekit keeps those that torch's unstable sort happens to put first; here the sort is made stable, as
ama-merge's choice is. DARE and DELLA draw masks. mergekit is given those that ama-merge would draw: Philox 4x32-10, written down here a second
time with numpy, keyed by BLAKE3 of seed, place of the model and name of the tensor.
"""

import functools
import json
import pathlib
import struct
import tempfile

import blake3
import numpy as np
import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
from mergekit.merge_methods.generalized_task_arithmetic import GeneralizedTaskArithmeticMerge
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
HIDDEN, INTER, VOCAB, LAYERS, HEADS = 8, 6, 10, 3, 2
SEED = 0


def shapes():
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        for name in "qo":
            yield layer + f"self_attn.{name}_proj.weight", (HIDDEN, HIDDEN)
        for name in "kv":
            yield layer + f"self_attn.{name}_proj.weight", (HIDDEN // 2, HIDDEN)
        yield layer + "mlp.gate_proj.weight", (INTER, HIDDEN)
        yield layer + "mlp.up_proj.weight", (INTER, HIDDEN)
        yield layer + "mlp.down_proj.weight", (HIDDEN, INTER)
        yield layer + "input_layernorm.weight", (HIDDEN,)
        yield layer + "post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INTER,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 1,
    "num_hidden_layers": LAYERS,
    "vocab_size": VOCAB,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}


def make_inputs():
    generator = torch.Generator().manual_seed(20)
    normal = lambda shape: torch.randn(shape, generator=generator)
    base = {name: normal(shape) * 0.5 + (1.0 if "norm" in name else 0.0) for name, shape in shapes()}
    inputs = {"base": base}
    for name in ("a", "b", "c"):
        inputs[name] = {k: v + 0.2 * normal(v.shape) for k, v in base.items()}
    # Far from the base and from one another, so that arcs are arcs.
    inputs["far"] = {k: normal(v.shape) for k, v in base.items()}
    # Multiples of 1/8: sums are exact, so that signs tie and magnitudes tie.
    coarse = lambda shape, size: torch.randint(-size, size + 1, shape, generator=generator) / 8
    inputs["coarse"] = {name: coarse(shape, 6) for name, shape in shapes()}
    for name in ("coarse_a", "coarse_b"):
        inputs[name] = {k: v + coarse(v.shape, 3) for k, v in inputs["coarse"].items()}
    for name in ("base", "a", "b"):
        inputs[name + "_bf16"] = {k: v.to(torch.bfloat16) for k, v in inputs[name].items()}
    return inputs


def philox(key, count):
    """The first `count` numbers of Philox 4x32-10 (Salmon et al. 2011) with counters 0, 1, ..."""
    mask = np.uint64(0xFFFFFFFF)
    c = [np.arange((count + 3) // 4, dtype=np.uint64)] + [np.zeros((count + 3) // 4, np.uint64)] * 3
    k = [np.uint64(key[0]), np.uint64(key[1])]
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(b >> np.uint64(32)) ^ c[1] ^ k[0], b & mask, (a >> np.uint64(32)) ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + np.uint64(0x9E3779B9)) & mask, (k[1] + np.uint64(0xBB67AE85)) & mask]
    return np.stack(c, 1).reshape(-1)[:count]


class Masks:
    """Stands in for torch.bernoulli, knowing for which tensor and which model it is called."""

    tensor, model = None, 0

    def __call__(self, probabilities):
        words = b"ama-merge mask 1\0" + struct.pack("<QQ", SEED, self.model) + self.tensor.encode()
        numbers = philox(struct.unpack("<II", blake3.blake3(words).digest()[:8]), probabilities.numel())
        bound = np.round(probabilities.double().numpy().reshape(-1) * 2.0**32)
        self.model += 1
        return torch.from_numpy((numbers < bound).astype(np.float32)).reshape(probabilities.shape)


MASKS = Masks()
torch.bernoulli = MASKS
torch.argsort = functools.partial(torch.argsort, stable=True)
merge_group = GeneralizedTaskArithmeticMerge.merge_group


def watched(self, group, /, **parameters):
    MASKS.tensor, MASKS.model = group.metadata.name, 0
    return merge_group(self, group, **parameters)


GeneralizedTaskArithmeticMerge.merge_group = watched


def models(*entries):
    return [{"model": "{%s}" % name, "parameters": parameters} for name, parameters in entries]


def task(method, *entries, base="base", dtype="float32", **parameters):
    config = {"merge_method": method, "base_model": "{%s}" % base, "models": models(*entries), "dtype": dtype}
    return config | ({"parameters": parameters} if parameters else {})


def linear(*entries, **parameters):
    config = {"merge_method": "linear", "models": models(*entries), "dtype": "float32"}
    return config | ({"parameters": parameters} if parameters else {})


def slerp(t, other="far"):
    return {
        "merge_method": "slerp",
        "base_model": "{base}",
        "models": [{"model": "{base}"}, {"model": "{%s}" % other}],
        "parameters": {"t": t},
        "dtype": "float32",
    }


def w(weight, density=None, epsilon=None):
    named = {"weight": weight, "density": density, "epsilon": epsilon}
    return {key: value for key, value in named.items() if value is not None}


CASES = {
    "linear": linear(("a", w(1.0)), ("b", w(0.5)), ("c", w(2.0))),
    "linear_sum": linear(("a", w(0.25)), ("b", w(-0.5)), ("c", w(0.0)), normalize=False),
    "linear_negative": linear(("a", w(1.5)), ("b", w(-0.5))),
    "linear_with_base": linear(("a", w(1.0))) | {"base_model": "{base}", "parameters": {"weight": 0.5}},
    "linear_gradient": linear(
        ("a", {"weight": [{"filter": "self_attn", "value": [0.0, 1.0, 0.25]}, {"filter": "mlp", "value": [1, 0]}, {"value": 0.5}]}),
        ("b", {"weight": 0.75}),
    ),
    "slerp_middle": slerp(0.5),
    "slerp_near": slerp(0.3, "a"),
    "slerp_start": slerp(0.0),
    "slerp_end": slerp(1.0),
    "slerp_beyond": slerp(1.2),
    "slerp_parallel": slerp(0.5, "base_bf16"),
    "slerp_gradient": {
        "slices": [
            {"sources": [{"model": "{base}", "layer_range": [0, 3]}, {"model": "{far}", "layer_range": [0, 3]}]}
        ],
        "merge_method": "slerp",
        "base_model": "{base}",
        "parameters": {
            "t": [
                {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
                {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
                {"value": 0.5},
            ]
        },
        "dtype": "float32",
    },
    "multislerp": {
        "merge_method": "multislerp",
        "models": models(("a", w(1.0)), ("b", w(0.5)), ("far", w(2.0))),
        "dtype": "float32",
    },
    "multislerp_sum": {
        "merge_method": "multislerp",
        "models": models(("a", w(0.25)), ("far", w(0.5))),
        "parameters": {"normalize_weights": False},
        "dtype": "float32",
    },
    "multislerp_base": task("multislerp", ("a", w(1.0)), ("b", w(0.5)), ("c", w(0.25))),
    "task_arithmetic": task("task_arithmetic", ("a", w(0.6)), ("b", w(0.3)), ("c", w(-0.2))),
    "task_arithmetic_normal": task(
        "task_arithmetic", ("a", w(0.6)), ("b", w(0.3)), ("c", w(0.0)), normalize=True, **{"lambda": 0.7}
    ),
    "task_arithmetic_cancel": task("task_arithmetic", ("a", w(0.5)), ("b", w(-0.5)), normalize=True),
    "ties": task("ties", ("a", w(1.0, 0.5)), ("b", w(1.0, 0.5)), ("c", w(1.0, 0.5))),
    "ties_sparse": task("ties", ("a", w(1.0, 0.2)), ("b", w(0.5, 0.2)), ("c", w(2.0, 0.2)), **{"lambda": 1.5}),
    "ties_dense": task("ties", ("a", w(1.0, 1.0)), ("b", w(0.5, 1.0)), ("c", w(0.3))),
    "ties_sum": task("ties", ("a", w(0.7, 0.5)), ("b", w(0.4, 0.3)), normalize=False, int8_mask=True),
    "ties_negative": task("ties", ("a", w(1.0, 0.5)), ("b", w(-0.5, 0.7)), ("c", w(0.0, 0.5))),
    "ties_rescale": task("ties", ("a", w(1.0, 0.4)), ("b", w(0.5, 0.2)), rescale=True),
    "ties_nothing": task("ties", ("a", w(1.0, 0.0)), ("b", w(0.5, 0.01))),
    "ties_coarse": task("ties", ("coarse_a", w(1.0, 0.5)), ("coarse_b", w(1.0, 0.5)), base="coarse"),
    "ties_coarse_sparse": task("ties", ("coarse_a", w(1.0, 0.2)), ("coarse_b", w(0.5, 0.3)), base="coarse"),
    "ties_bf16": task("ties", ("a_bf16", w(1.0, 0.5)), ("b_bf16", w(0.5, 0.5)), base="base_bf16")
    | {"out_dtype": "bfloat16"},
    "ties_slices": {
        "slices": [
            {
                "sources": [
                    {"model": "{base}", "layer_range": [0, 2]},
                    {"model": "{a}", "layer_range": [0, 2], "parameters": {"weight": [0.5, 1.0], "density": 0.5}},
                    {"model": "{b}", "layer_range": [0, 2], "parameters": {"weight": 0.3}},
                ],
                "parameters": {"density": [0.9, 0.1]},
            },
            {
                "sources": [
                    {"model": "{base}", "layer_range": [2, 3]},
                    {"model": "{a}", "layer_range": [2, 3]},
                    {"model": "{b}", "layer_range": [2, 3], "parameters": {"weight": [0.1, 0.9]}},
                ],
                "parameters": {"lambda": 0.5},
            },
        ],
        "merge_method": "ties",
        "base_model": "{base}",
        "parameters": {"weight": 0.8, "normalize": [False, True], "density": 0.6},
        "dtype": "float32",
    },
    "dare_linear": task("dare_linear", ("a", w(0.6, 0.5)), ("b", w(0.3, 0.2)), ("c", w(-0.2, 0.9))),
    "dare_linear_dense": task("dare_linear", ("a", w(0.6, 1.0)), ("b", w(0.3))),
    "dare_linear_plain": task("dare_linear", ("a", w(0.6, 0.5)), ("b", w(0.3, 0.2)), rescale=False, normalize=True),
    "dare_ties": task("dare_ties", ("a", w(0.6, 0.5)), ("b", w(0.3, 0.5)), ("c", w(0.4, 0.5))),
    "dare_ties_normal": task("dare_ties", ("a", w(0.6, 0.5)), ("b", w(0.3, 0.2)), normalize=True),
    "della": task("della", ("a", w(0.6, 0.5, 0.2)), ("b", w(0.3, 0.5)), ("c", w(0.4, 0.4, 0.3)), **{"lambda": 1.1}),
    "della_linear": task("della_linear", ("a", w(0.6, 0.5, 0.2)), ("b", w(0.3, 0.7))),
    "della_plain": task("della", ("a", w(0.6, 0.5, 0.2)), ("b", w(0.3, 0.7)), rescale=False, normalize=False),
}


def main():
    inputs = make_inputs()
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        for name, tensors in inputs.items():
            folder = root / name
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(CONFIG))
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        texts, expected = {}, {}
        for name, case in CASES.items():
            text = yaml.safe_dump(case, sort_keys=False, default_flow_style=None, width=100)
            texts[name] = text
            for folder in inputs:
                text = text.replace("'{%s}'" % folder, str(root / folder))
            config = MergeConfiguration.model_validate(yaml.safe_load(text))
            out = root / ("out_" + name)
            options = MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False)
            run_merge(config, str(out), options)
            merged = {}
            for file in sorted(out.glob("*.safetensors")):
                merged |= load_file(file)
            assert sorted(merged) == sorted(n for n, _ in shapes()), name
            expected[name] = torch.cat([merged[k].float().reshape(-1) for k in sorted(merged)])
            assert expected[name].isfinite().all(), name
    flat = {f"{folder}/{k}": v.contiguous() for folder, tensors in inputs.items() for k, v in tensors.items()}
    save_file(flat, HERE / "inputs.safetensors")
    save_file(expected, HERE / "expected.safetensors")
    (HERE / "cases.json").write_text(json.dumps(texts, indent=1) + "\n")


main()
