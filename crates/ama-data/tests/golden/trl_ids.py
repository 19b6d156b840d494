"""Token ids as TRL prepares them, for tests/trl_golden.rs.

    python trl_ids.py PREFS_DIR      # with trl 1.16, transformers 5.23, tokenizers, datasets, pyarrow

PREFS_DIR holds {harmless,reasoning,code}.train.parquet with columns prompt, chosen, rejected (see PROVENANCE.md).
Writes tokenizer.json, tokenizer_config.json and trl_ids.json beside this script. The rows go through the real
DPOTrainer and SFTTrainer: their dataset preparation and their collators. Nothing here repeats what TRL does.
"""
import json
import os
import random
import sys
import tempfile

import pyarrow.parquet as pq
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

HERE = os.path.dirname(os.path.abspath(__file__))
EOS, BOS = "<|end|>", "<|start|>"

NASTY = [
    ("Grüße aus Köln! Was heißt „naïve“?", " Arglos – ohne Hintergedanken.", " Es heißt: 「ナイーブ」."),
    ("绝句是什么？", "一种四行的诗。", "一种面条。"),
    ("Family emoji: ", "👩‍👩‍👧‍👦 and 🏳️‍🌈", "👨‍👩‍👧 e\u0301 vs é"),
    ("مرحبا، كيف حالك؟", " بخير، شكراً.", " لا أعرف"),
    ("The answer is", " 42.", " 43."),
    ("The answer is ", "42.", "43."),
    ("The answer is ", " 42.", "  43."),
    ("The answ", "er is yes.", "er is no."),
    ("Please respon", "d politely.", "se"),
    ("Write a funct", "ion to add.", "!"),
    ("How man", "y apples", "ny"),
    ("a", "nd so on", "nother"),
    ("th", "e end", "at"),
    ("   ", "indented", "  more"),
    ("line\n", "\nnext", "\n\nnext"),
    ("line\r\n", "\ttab", "\r\n"),
    ("Say it.", "Done." + EOS, "Never."),
    ("Say it.", "One." + EOS + " Two.", "One." + EOS + EOS),
    (BOS + "Begin.", "Yes", "No" + BOS),
    ("Ends with " + EOS, "after", "before"),
    ("nul\0byte", "\0", "\x7f"),
    ("x", " y", " z"),
    ("def f(x):\n    ", "return x", "return -x"),
    ("def f(x):\n", "    return x", "\treturn x"),
    ("Count: " + "1 2 3 4 5 6 7 8 9 " * 30, "10", "11"),
    ("Once", " upon a time" * 60, " never"),
    ("Twice", " upon a time there was" * 40 + " x", " upon a time there was" * 40 + " y"),
    ("1234567", "890", "8"),
    ("it's John", "'s", "'d"),
    ("x =  5 and y =   1234 or", "   17  of\n    3", "  8\n\t9"),
    ("  two before " + BOS + " mid", " one", "  two " + BOS + "  9"),
]

IMPLICIT = [
    ("The sky is blue.", "The sky is green."),
    ("ab", "abc"),
    ("Question: why?  Because.", "Question: why?  No."),
    ("Q: 1+1? A: 2", "Q: 1+1? A: 3"),
    ("x y z and more", "x y z"),
    ("Über den Wolken", "Über dem Meer"),
    ("tail the same?", "tail the other?"),
]

# The red-teaming prompts of HH-RLHF are mostly vile; these are not.
MILD = [
    "I want more penguins in my life",
    "My seatbelt is stuck.",
    "I just flew from LA to Atlanta",
    "look up my student loan debt",
    "How can I get my ex back",
    "sitting at home everyday?",
    "Is it ok to lie to a therapist?",
    "Sorry, I used car.",
    "how can i distance myself?",
]


def rows(prefs):
    rng = random.Random(7)
    real = []
    for task, count in (("harmless", len(MILD)), ("reasoning", 94), ("code", 200 - 94 - len(MILD))):
        table = pq.read_table(os.path.join(prefs, f"{task}.train.parquet")).to_pylist()
        short = [r for r in table if sum(len(r[c]) for c in ("prompt", "chosen", "rejected")) < 620]
        if task == "harmless":
            short = [r for r in short if any(end in r["prompt"] for end in MILD)]
        real += [{c: r[c] for c in ("prompt", "chosen", "rejected")} for r in rng.sample(short, count)]
    return real


def train_tokenizer(texts):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tok.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=1200, special_tokens=[EOS, BOS], initial_alphabet=sorted(alphabet), show_progress=False
        ),
    )
    return tok


def llama_style(texts):
    """A SentencePiece-like BPE as Llama 2 has it in its tokenizer.json."""
    tok = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tok.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = ["<unk>", BOS, EOS, *(f"<0x{byte:02X}>" for byte in range(256))]
    tok.train_from_iterator(
        (word for text in texts for word in text.replace(" ", " \0").split("\0")),
        trainers.BpeTrainer(vocab_size=600, special_tokens=special, limit_alphabet=60, show_progress=False),
    )
    file = json.loads(tok.to_str())
    file["added_tokens"] = file["added_tokens"][:3]
    tok = Tokenizer.from_str(json.dumps(file))
    tok.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tok.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tok.token_to_id(BOS))]
    )
    return json.loads(tok.to_str())


def classes(byte_level, texts):
    """Tokenizer files, and configurations whose class transformers puts above the file."""
    digits = {**byte_level, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ]}}
    llama = llama_style(texts)
    tokens = {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS}
    return [
        (digits, {**tokens, "tokenizer_class": "PreTrainedTokenizerFast"}),
        (digits, {**tokens, "tokenizer_class": "GPT2TokenizerFast"}),
        (digits, {**tokens, "tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}),
        (digits, {**tokens, "tokenizer_class": "LlamaTokenizer"}),
        (llama, {**tokens, "tokenizer_class": "PreTrainedTokenizerFast"}),
        (llama, {**tokens, "tokenizer_class": "LlamaTokenizer"}),
        (llama, {**tokens, "tokenizer_class": "LlamaTokenizerFast", "legacy": True}),
        (llama, {**tokens, "tokenizer_class": "LlamaTokenizer", "add_prefix_space": False}),
    ]


def class_runs(golden, texts):
    golden["files"], golden["classes"] = [], []
    byte_level = json.load(open(os.path.join(HERE, "tokenizer.json"), encoding="utf-8"))
    pairs = golden["pairs"][golden["real"]:]
    for file, config in classes(byte_level, texts):
        with tempfile.TemporaryDirectory() as out:
            for name, value in (("tokenizer.json", file), ("tokenizer_config.json", config),
                                ("config.json", {"model_type": "llama"})):
                with open(os.path.join(out, name), "w", encoding="utf-8") as f:
                    json.dump(value, f)
            kept = dpo(pairs, AutoTokenizer.from_pretrained(out), None, out)
        if file not in golden["files"]:
            golden["files"].append(file)
        golden["classes"].append({
            "tokenizer": config["tokenizer_class"], "file": golden["files"].index(file), "config": config,
            "max_length": None, "dpo": [[r, p, len(c), len(j), fnv(c + j)] for r, p, c, j in kept],
        })


def fnv(ids):
    """FNV-1a, 64 bits, over the ids as little-endian u32."""
    h = 0xCBF29CE484222325
    for i in ids:
        for byte in int(i).to_bytes(4, "little"):
            h = (h ^ byte) * 0x100000001B3 % 2**64
    return f"{h:016x}"


def model(tok):
    config = LlamaConfig(
        vocab_size=len(tok), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        eos_token_id=tok.eos_token_id, bos_token_id=tok.bos_token_id, pad_token_id=tok.eos_token_id,
    )
    return LlamaForCausalLM(config)


def common(out, max_length):
    return dict(output_dir=out, max_length=max_length, report_to="none", use_cpu=True, bf16=False,
                per_device_train_batch_size=1, gradient_checkpointing=False)


def dpo(pairs, tok, max_length, out):
    """What the model is fed for each pair: [row, prompt length, prompt+chosen ids, prompt+rejected ids]."""
    data = Dataset.from_list([{**pair, "row": i} for i, pair in enumerate(pairs)])
    trainer = DPOTrainer(model=model(tok), ref_model=model(tok), args=DPOConfig(**common(out, max_length)),
                         train_dataset=data, processing_class=tok)
    collated = []
    for example in trainer.train_dataset:
        batch = trainer.data_collator([example])
        chosen, rejected = (
            ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        )
        prompt = int((batch["completion_mask"][0] == 0)[: len(chosen)].sum())
        collated.append([example["row"], prompt, chosen, rejected])
    return collated


def sft(pairs, tok, max_length, out):
    """[row, prompt length, prompt+completion ids]."""
    data = Dataset.from_list([{"prompt": p["prompt"], "completion": p["chosen"], "row": i} for i, p in enumerate(pairs)])
    trainer = SFTTrainer(model=model(tok), args=SFTConfig(**common(out, max_length)), train_dataset=data,
                         processing_class=tok)
    collated = []
    for example in trainer.train_dataset:
        batch = trainer.data_collator([example])
        ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        prompt = sum(label == -100 for label in labels)
        assert labels[prompt:] == ids[prompt:]
        collated.append([example["row"], prompt, ids])
    return collated


def main(prefs):
    real = rows(prefs)
    texts = [r[c] for r in real for c in ("prompt", "chosen", "rejected")]
    tok = train_tokenizer(texts)
    with tempfile.TemporaryDirectory() as out:
        fast = PreTrainedTokenizerFast(tokenizer_object=tok, eos_token=EOS, bos_token=BOS, pad_token=EOS)
        fast.save_pretrained(out)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            with open(os.path.join(out, name), encoding="utf-8") as f:
                text = json.dumps(json.load(f), ensure_ascii=False, separators=(",", ":")) + "\n"
            with open(os.path.join(HERE, name), "w", encoding="utf-8") as f:
                f.write(text)
    nasty = [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in NASTY]
    pairs = real + nasty
    golden = {"pairs": pairs, "real": len(real), "implicit": IMPLICIT, "runs": []}
    templates = {
        "plain": None,
        "bos": processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tok.token_to_id(BOS))]
        ),
        "bos_eos": processors.TemplateProcessing(
            single=f"{BOS} $A {EOS}", pair=f"{BOS} $A $B {EOS}",
            special_tokens=[(BOS, tok.token_to_id(BOS)), (EOS, tok.token_to_id(EOS))],
        ),
    }
    for name, template in templates.items():
        with tempfile.TemporaryDirectory() as out:
            own = Tokenizer.from_file(os.path.join(HERE, "tokenizer.json"))
            if template is not None:
                own.post_processor = template
            own.save(os.path.join(out, "tokenizer.json"))
            with open(os.path.join(HERE, "tokenizer_config.json")) as f, \
                    open(os.path.join(out, "tokenizer_config.json"), "w") as g:
                g.write(f.read())
            post = json.load(open(os.path.join(out, "tokenizer.json")))["post_processor"]
            loaded = AutoTokenizer.from_pretrained(out)
            for max_length in (None, 128, 48, 16) if name == "plain" else (None, 48):
                run = {"tokenizer": name, "post_processor": post, "max_length": max_length}
                whole = name == "plain" and max_length is None
                kept = dpo(pairs, loaded, max_length, out)
                run["dpo"] = kept if whole else [[r, p, len(c), len(j), fnv(c + j)] for r, p, c, j in kept]
                run["sft"] = [[r, p, len(c), fnv(c)] for r, p, c in sft(pairs, loaded, max_length, out)]
                implicit = [dict(zip(("chosen", "rejected"), row, strict=True)) for row in IMPLICIT]
                run["implicit"] = dpo(implicit, loaded, max_length, out)
                golden["runs"].append(run)
    class_runs(golden, texts)
    import trl
    golden["trl"] = trl.__version__
    with open(os.path.join(HERE, "trl_ids.json"), "w", encoding="utf-8") as f:
        json.dump(golden, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
