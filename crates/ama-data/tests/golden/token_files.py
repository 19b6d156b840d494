"""Token ids of `transformers` for folders whose tokens stand in different files, for tests/token_files.rs.

    python token_files.py      # with transformers 5.23, tokenizers

Writes token_files.json beside this script. Each variant is a tokenizer.json (a base of trl_ids.json, changed by keys) with the
other files of its folder; `AutoTokenizer` reads the folder and tokenises TEXTS. A variant that it refuses has `error` instead.
"""
import copy
import json
import os
import tempfile

from transformers import AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
EOS, BOS = "<|end|>", "<|start|>"

TEXTS = [
    "Look it up: <tool>search map</tool> done",
    "x<tool>y <tool> z </tool>\n<tool>",
    " two  spaces   and\ttabs\n\n  12345, it's don't DON'T",
    "<|start|>hi<|end|>\n<s>low</s><unk>",
    "Grüße e\u0301 vs é 你好 👍 ▁ under",
    "tool toolbox TOOL <TOOL> <mask> <pad> <bos> <eos>",
    "▁<PRE> a ▁<SUF> b ▁<MID> ▁<EOT> <|endoftext|>",
    "<img> <image> <a1><a2> <b1>",
    "",
    " ",
]


def token(content, special=True, **how):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
            "special": special, **how}


def typed(content, **how):
    return {"__type": "AddedToken", **token(content, **how)}


def template(before, after, ids):
    special = lambda t: {"SpecialToken": {"id": t, "type_id": 0}}
    text = lambda name, kind: {"Sequence": {"id": name, "type_id": kind}}
    return {"type": "TemplateProcessing", "single": [*map(special, before), text("A", 0), *map(special, after)],
            "pair": [*map(special, before), text("A", 0), text("B", 1)],
            "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in {*before, *after}}}


def bases():
    with open(os.path.join(HERE, "tokenizer.json"), encoding="utf-8") as f:
        byte_level = json.load(f)
    with open(os.path.join(HERE, "trl_ids.json"), encoding="utf-8") as f:
        files = json.load(f)["files"]
    pieces = next(file for file in files if file["model"]["byte_fallback"])
    return {"byte_level": byte_level, "pieces": pieces}


def variants(base):
    """Yields (name, base, changed keys of tokenizer.json, other files)."""
    named = {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS}
    size = {name: len(file["model"]["vocab"]) for name, file in base.items()}
    ids = {name: file["model"]["vocab"] for name, file in base.items()}
    decoder = lambda b, *more: {str(ids[b][t]): token(t) for t in (EOS, BOS)} | {
        str(size[b] + i): t for i, t in enumerate(more)}
    tools = lambda **how: (token("<tool>", **how), token("</tool>", **how))
    config = lambda **keys: {"tokenizer_config.json": {**named, **keys}}
    model = lambda kind: {"config.json": {"model_type": kind}}

    classes = [None, "PreTrainedTokenizerFast", "TokenizersBackend", "LlamaTokenizerFast", "LlamaTokenizer",
               "Qwen2TokenizerFast", "GPT2TokenizerFast", "GemmaTokenizerFast", "CodeLlamaTokenizerFast",
               "GPTNeoXTokenizerFast", "Qwen3_5Tokenizer", "CodeGenTokenizerFast", "CohereTokenizerFast",
               "NoSuchTokenizer"]
    for b in base:
        for c in classes:
            keys = {} if c is None else {"tokenizer_class": c}
            label = f"{b}/{c}"
            yield f"{label}: plain", b, {}, config(**keys) | model("llama")
            yield f"{label}: added_tokens_decoder", b, {}, config(
                **keys, added_tokens_decoder=decoder(b, *tools())) | model("llama")
            yield f"{label}: added_tokens.json", b, {}, config(**keys) | model("llama") | {
                "added_tokens.json": {"<tool>": size[b], "</tool>": size[b] + 1}}
            yield f"{label}: extra_special_tokens object", b, {}, config(
                **keys, extra_special_tokens={"open_tool": "<tool>", "close_tool": "</tool>"}) | model("llama")
            yield f"{label}: extra_special_tokens list", b, {}, config(
                **keys, extra_special_tokens=["<tool>", "</tool>"]) | model("llama")
            yield f"{label}: additional_special_tokens", b, {}, config(
                **keys, additional_special_tokens=["<tool>", "</tool>"]) | model("llama")
            yield f"{label}: special_tokens_map.json", b, {}, {
                "special_tokens_map.json": {**named, "additional_special_tokens": ["<tool>", "</tool>"],
                                            "mask_token": token("<mask>", lstrip=True)},
                "tokenizer_config.json": keys} | model("llama")
            yield f"{label}: add_bos_token", b, {}, config(
                **keys, add_bos_token=True, add_eos_token=True) | model("llama")
            yield f"{label}: add_bos_token, no post-processor", b, {"post_processor": None}, config(
                **keys, add_bos_token=True, add_eos_token=True) | model("llama")
            yield f"{label}: template of the file", b, {"post_processor": template([BOS], [EOS], ids[b])}, config(
                **keys, add_bos_token=False, add_eos_token=False) | model("llama")
            yield f"{label}: add_prefix_space", b, {}, config(**keys, add_prefix_space=True) | model("llama")
            yield f"{label}: no add_prefix_space", b, {}, config(**keys, add_prefix_space=False) | model("llama")

    b = "byte_level"
    plain = {"tokenizer_class": "PreTrainedTokenizerFast"}
    llama = {"tokenizer_class": "LlamaTokenizer"}
    gpt2 = {"tokenizer_class": "GPT2Tokenizer"}
    for kind in ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "phi", "gpt2", "olmo2", "code_llama",
                 "no_such_model", ""):
        for b2, keys in (("byte_level", gpt2), ("byte_level", llama), ("pieces", llama), ("pieces", {}), ("byte_level", {})):
            name = keys.get("tokenizer_class")
            yield f"{b2}/{name}: model_type {kind}", b2, {}, config(**keys) | model(kind)
    yield "class in config.json", b, {}, config() | {"config.json": {"model_type": "llama", "tokenizer_class": "GPT2Tokenizer"}}
    yield "no config.json", "pieces", {}, config(**llama)
    yield "no tokenizer_config.json", b, {}, model("llama")
    yield "no tokenizer_config.json, added tokens", b, {}, model("llama") | {"added_tokens.json": {"<tool>": size[b], "</tool>": size[b] + 1}}
    yield "no tokenizer_config.json, special tokens", b, {}, model("llama") | {"special_tokens_map.json": {**named, "additional_special_tokens": ["<tool>"]}}
    # Objects, with and without the mark of a saved AddedToken.
    for mark in (token, typed):
        yield f"tokens as objects ({mark.__name__})", b, {}, model("llama") | config(
            **plain, **{k: mark(v) for k, v in named.items()})
        yield f"mask as object ({mark.__name__})", b, {}, model("llama") | config(
            **plain, mask_token=mark("<mask>", lstrip=True))
        yield f"extra_special_tokens of objects ({mark.__name__})", b, {}, model("llama") | config(
            **plain, extra_special_tokens=[mark("<tool>", rstrip=True), mark("</tool>")])
        yield f"named extra_special_tokens as objects ({mark.__name__})", b, {}, model("llama") | config(
            **plain, extra_special_tokens={"open_tool": mark("<tool>", rstrip=True)})
        yield f"special_tokens_map.json of objects ({mark.__name__})", b, {}, model("llama") | {
            "tokenizer_config.json": plain, "special_tokens_map.json": {
                **{k: mark(v) for k, v in named.items()}, "additional_special_tokens": [mark("<tool>"), mark("</tool>")]}}
    # Order of precedence.
    for c in (plain, llama, gpt2):
        for b2 in base:
            label = f"{b2}/{c['tokenizer_class']}"
            more = {"added_tokens.json": {"<img>": size[b2], "<image>": size[b2] + 1},
                    "special_tokens_map.json": {**named, "eos_token": "</s>", "additional_special_tokens": ["<a1>", "<a2>"]}}
            yield f"{label}: decoder above the legacy files", b2, {}, config(
                **c, added_tokens_decoder=decoder(b2, *tools()), additional_special_tokens=["<b1>"]) | model("llama") | more
            yield f"{label}: all legacy files", b2, {}, config(**c, additional_special_tokens=["<b1>"]) | model("llama") | more
            yield f"{label}: map over configuration", b2, {}, config(**c, eos_token="</s>") | model("llama") | {
                "special_tokens_map.json": {"eos_token": EOS, "bos_token": BOS}}
            yield f"{label}: empty decoder", b2, {}, config(**c, added_tokens_decoder={}) | model("llama") | more
            yield f"{label}: both lists", b2, {}, config(
                **c, extra_special_tokens=["<a1>"], additional_special_tokens=["<b1>"]) | model("llama")
            yield f"{label}: ids with gaps", b2, {}, config(**c, added_tokens_decoder={
                **decoder(b2), str(size[b2] + 7): token("<tool>"), str(size[b2] + 3): token("</tool>")}) | model("llama")
            yield f"{label}: ids out of order", b2, {}, config(**c) | model("llama") | {
                "added_tokens.json": {"</tool>": size[b2] + 1, "<tool>": size[b2]}}
            yield f"{label}: id of an old token", b2, {}, config(**c, added_tokens_decoder={
                **decoder(b2), "5": token("<tool>")}) | model("llama")
            yield f"{label}: not special, normalized", b2, {}, config(**c, added_tokens_decoder=decoder(
                b2, *tools(special=False, normalized=True), token("tool", special=False, normalized=True, single_word=True)
            )) | model("llama")
            yield f"{label}: stripping", b2, {}, config(**c, added_tokens_decoder=decoder(
                b2, token("<tool>", lstrip=True, rstrip=True), token("</tool>", rstrip=True))) | model("llama")
            yield f"{label}: token of its own name", b2, {}, config(**c, image_token="<image>", fill_token="<img>") | model("llama")
            yield f"{label}: unknown bos", b2, {}, config(**c, bos_token="<bos>") | model("llama")
            yield f"{label}: null tokens", b2, {}, config(**c, unk_token=None, bos_token=None) | model("llama")
            yield f"{label}: split_special_tokens", b2, {}, config(**c, split_special_tokens=True) | model("llama")
            yield f"{label}: added in tokenizer.json only", b2, {"added_tokens": [
                *({**t} for t in base[b2]["added_tokens"]), {"id": size[b2], **token("<tool>")},
                {"id": size[b2] + 1, **token("</tool>", special=False)}]}, config(**c) | model("llama")
            yield f"{label}: tokenizer.json and decoder differ", b2, {"added_tokens": [
                *({**t} for t in base[b2]["added_tokens"]), {"id": size[b2], **token("<tool>")}]}, config(
                **c, added_tokens_decoder=decoder(b2, token("<tool>", lstrip=True, rstrip=True))) | model("llama")
            yield f"{label}: decoder without the tokens of tokenizer.json", b2, {"added_tokens": [
                *({**t} for t in base[b2]["added_tokens"]), {"id": size[b2], **token("<tool>")}]}, config(
                **c, added_tokens_decoder={}) | model("llama")
            yield f"{label}: padding and truncation", b2, {
                "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
                "padding": {"strategy": {"Fixed": 30}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                            "pad_type_id": 0, "pad_token": "<pad>"}}, {
                "tokenizer_config.json": {**c, "bos_token": BOS, "eos_token": EOS}} | model("llama")
    yield "legacy Llama", "pieces", {}, config(**llama, legacy=True) | model("llama")
    yield "a vocabulary list of files", b, {}, config(**plain, fast_tokenizer_files=["tokenizer.json"]) | model("llama")
    yield "remote code of a known class", b, {}, config(**gpt2, auto_map={"AutoTokenizer": ["x.Y", None]}) | model("llama")
    yield "remote code of an unknown class", b, {}, config(
        tokenizer_class="OwnTokenizer", auto_map={"AutoTokenizer": ["x.Y", None]}) | model("llama")
    # Tokens of one kind under several keys: what replaces what.
    image, media = {"image_token": "<image>"}, {"image_token": "<image>", "art_token": "<img>"}
    for b2, c in (("byte_level", plain), ("pieces", plain), ("pieces", llama), ("byte_level", {"tokenizer_class": "Qwen2Tokenizer"}),
                  ("pieces", {"tokenizer_class": "CodeLlamaTokenizer"})):
        own = lambda files, **keys: config(**c, **keys) | model("llama") | files
        special = lambda **keys: {"special_tokens_map.json": keys}
        added = {"added_tokens.json": {"<tool>": size[b2], "</tool>": size[b2] + 1, "<img>": size[b2] + 2}}
        older = {"additional_special_tokens": ["<tool>", "</tool>"]}
        decoded = {"added_tokens_decoder": decoder(b2, token("<a1>"))}
        extra = lambda value: {"extra_special_tokens": value}
        for name, files in {
            "extra object beside the older list": own({}, **extra(image), **older),
            "the same with a decoder": own({}, **extra(image), **older, **decoded),
            "the same, map with an older list": own(special(additional_special_tokens=["<a1>"]), **extra(image), **older),
            "older object": own({}, **extra(media)),
            "empty extra object": own({}, **extra({}), **older),
            "map object over list": own(special(**extra(image)), **extra(["<tool>"])),
            "map object over older list": own(special(**extra(image)), **older),
            "map object over both lists": own(special(**extra(image)), **extra(["<a1>"]), **older),
            "map object over object": own(special(**extra({"art_token": "<img>"})), **extra(image)),
            "map null over list": own(special(**extra(None)), **older),
            "map list over list": own(special(**extra(["</tool>", "<a1>"])), **older),
            "map list of objects": own(special(**extra([{"content": "<tool>"}, {"content": "</tool>", "lstrip": True}]))),
            "map list of objects, split": own(special(**extra([{"content": "<tool>"}])), split_special_tokens=True),
            "map objects, split": own(special(mask_token={"content": "<mask>"}, image_token={"content": "<image>"}),
                                      split_special_tokens=True),
            "map null over own": own(special(image_token=None), image_token=typed("<image>")),
            "added, listed as texts": own(added, **older),
            "added, listed as objects": own(added, additional_special_tokens=[typed("<tool>"), "</tool>"], pad_token=typed("<img>")),
            "added, listed as objects in the map": own(added | special(
                pad_token={"content": "<img>"}, **extra([{"content": "<tool>"}])), pad_token=typed("<img>")),
            "added, object beside the older list": own(added, **extra(image), **older),
            "added, split, listed as objects": own(added, split_special_tokens=True,
                                                   additional_special_tokens=[typed("<tool>"), "</tool>"], pad_token=typed("<img>")),
            "own object without its mark": own({}, image_token={"content": "<image>"}, art_token=typed("<img>")),
            "the same with a decoder and text": own({}, image_token=token("<image>"), art_token="<img>", **decoded),
            "model_specific": own({}, model_specific_special_tokens=media),
            "model_specific with a decoder": own({}, model_specific_special_tokens=media, **decoded),
            "model_specific of objects": own({}, model_specific_special_tokens={"image_token": typed("<image>", lstrip=True)}),
            "model_specific, own text": own({}, model_specific_special_tokens=image, art_token="<img>"),
            "model_specific, own object": own({}, model_specific_special_tokens=image, art_token=typed("<img>")),
            "model_specific, extra object": own({}, model_specific_special_tokens=image, **extra({"art_token": "<img>"})),
            "model_specific, extra list": own({}, model_specific_special_tokens=image, **older),
            "model_specific, map object": own(special(**extra({"art_token": "<img>"})), model_specific_special_tokens=image),
            "model_specific, map text": own(special(art_token="<img>"), model_specific_special_tokens=image),
            "model_specific of a named token": own({}, model_specific_special_tokens={"mask_token": "<mask>", "unk_token": "<unk>"}),
            "model_specific null": own({}, model_specific_special_tokens=None),
            "model_specific list": own({}, model_specific_special_tokens=["<image>"]),
            "model_specific list, own text": own({}, model_specific_special_tokens=["<image>"], image_token="<image>"),
            "model_specific in the map": own(special(model_specific_special_tokens=image)),
        }.items():
            yield f"{b2}/{c['tokenizer_class']}: {name}", b2, {}, files
    for c in classes[2:]:
        for value in (None, "auto"):
            yield f"{c}: add_prefix_space {value}", b, {}, config(tokenizer_class=c, add_prefix_space=value) | model("llama")
    for value in (None, "auto", 1):
        yield f"split_special_tokens {value}", b, {}, config(**plain, split_special_tokens=value) | model("llama")
    fill = ("prefix_token", "middle_token", "suffix_token", "eot_token", "fill_token")
    for name, keys in {"null": dict.fromkeys(fill), "prefix null": {"prefix_token": None}, "text": {"prefix_token": "<a1>"},
                       "object": {"prefix_token": typed("<a1>")}, "object without its mark": {"prefix_token": {"content": "<a1>"}}}.items():
        yield f"CodeLlamaTokenizer: own token {name}", "pieces", {}, config(tokenizer_class="CodeLlamaTokenizer", **keys) | model("llama")
    for name, keys in {"list": {"extra_special_tokens": ["<tool>"]}, "object": {
            "extra_special_tokens": {"a": "<img>"}, "additional_special_tokens": ["<tool>"]}}.items():
        yield f"CodeLlamaTokenizer: own token text, extra {name}", "pieces", {}, config(
            tokenizer_class="CodeLlamaTokenizer", prefix_token="<a1>", **keys) | model("llama")
    yield "CodeLlamaTokenizer: own token null in the map", "pieces", {}, config(tokenizer_class="CodeLlamaTokenizer") | model("llama") | {
        "special_tokens_map.json": {"eot_token": None, "fill_token": None}}
    for key in ("add_prefix_space", "legacy"):
        yield f"{key} None", "pieces", {}, config(**llama, **{key: None}) | model("llama")


def main():
    base = bases()
    out = []
    for name, b, keys, files in variants(base):
        # As texts: the order of keys decides about ids.
        files = {file: json.dumps(value, ensure_ascii=False, separators=(",", ":")) for file, value in files.items()}
        found = {"name": name, "base": b, "keys": keys, "files": files}
        with tempfile.TemporaryDirectory() as folder:
            whole = json.dumps({**copy.deepcopy(base[b]), **keys})
            for file, text in {"tokenizer.json": whole, **files}.items():
                with open(os.path.join(folder, file), "w", encoding="utf-8") as f:
                    f.write(text)
            try:
                tok = AutoTokenizer.from_pretrained(folder)
                found["ids"] = [tok(text)["input_ids"] for text in TEXTS]
                found["eos"] = tok.eos_token
            except Exception as error:
                found["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:160].replace(folder, "")
        out.append(found)
    # Most variants agree with others on their ids: each list once.
    lists = []
    for found in out:
        if "ids" in found:
            found["ids"] = [lists.index(i) if i in lists else lists.append(i) or len(lists) - 1 for i in found["ids"]]
    with open(os.path.join(HERE, "token_files.json"), "w", encoding="utf-8") as f:
        f.write('{"texts":' + json.dumps(TEXTS, ensure_ascii=False) + ',\n"lists":[\n')
        f.write(",\n".join(json.dumps(i, separators=(",", ":")) for i in lists) + '],\n"variants":[\n')
        f.write(",\n".join(json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in out) + "]}\n")


if __name__ == "__main__":
    main()
