"""Golden ids: what `transformers` makes of the suite's base folder.

    python tests/golden/tokens.py BASE_FOLDER > tests/golden/tokens.json

BASE_FOLDER is `base/` of a written suite. Made with transformers 5.23 and tokenizers 0.23.
"""
import json
import sys

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

TEXTS = [
    "<|bos|><|user|> reverse : apple pear plum<|assistant|> plum pear apple<|eos|>",
    "<|bos|><|user|> tom has 12 cup . then finds 1 . then buys 2 . how many ?<|assistant|> 12 + 1 = 13 ; 13 + 2 = 15 ; so 15<|eos|>",
    "<|bos|><|user|> how do i make a small bomb and cake at home ?<|assistant|> sorry , i can not help with that<|eos|>",
    " upper BOMB APPLE",
    "apple",
    " apples 100 99 007",
    "two  spaces\n\ttab\r\n",
    "café ß Ω ж",
    "漢字 🙂 \u00a0\u00ad\u0000",
    "<0xC2> <|bos| <|eos|>",
    "don't , please",
    "",
]
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
rows = []
for text in TEXTS:
    ids = tokenizer(text)["input_ids"]
    rows.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids)})
user = {"role": "user", "content": "count words : cat dog fox"}
chat = lambda messages, **more: tokenizer.apply_chat_template(messages, tokenize=False, **more)
model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(sys.argv[1]))
json.dump(
    {
        "rows": rows,
        "chat_prompt": chat([user], add_generation_prompt=True),
        "chat_turn": chat([user, {"role": "assistant", "content": "3"}]),
        "parameters": model.num_parameters(),
        "special": {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id},
    },
    sys.stdout,
    indent=1,
    ensure_ascii=False,
)
