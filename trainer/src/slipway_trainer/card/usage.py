"""How the model of a card is used, in a few lines that run in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway_core.protocol.artifact import Manifest

_PLAIN = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
"""
_NF4 = """\
held = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
"""
_CHAT = """\
conversation = [{"role": "user", "content": "Hello"}]
inputs = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=True, return_tensors="pt")
"""
_TEXT = """\
inputs = tokenizer("Once", return_tensors="pt")
"""
_ANSWER = """\
answer = model.generate(**inputs, max_new_tokens=100)
print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
"""


def section(manifest: Manifest, facts: Mapping[str, Any]) -> str:
    """Returns the section of a card."""
    chats = any(stage["objective"] == "Chat" for stage in facts["stages"].values())
    adapter = manifest.lineage.get("adapter")
    load = _PLAIN if adapter is None else _adapter(adapter["base"], facts["base"])
    code = f"{load}{_CHAT if chats else _TEXT}{_ANSWER}"
    words = "Run it in this folder; `hf download` brings it from the hub.\n"
    if "quantization" in manifest.lineage:
        words += "\ntransformers needs the package compressed-tensors for it.\n"
    if adapter is None:
        words += "\nvLLM, and every other server that reads the format of Hugging Face, takes the folder as it is.\n"
    return f"## Use\n\n```python\n{code}```\n\n{words}"


def _adapter(where: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """Returns how it is loaded: its base lies beside it, on the hub, or where only whoever trained it knows."""
    if "folder" in where:
        # Not "." with a subfolder: transformers would look for the base of the adapter that it finds in ".".
        place = f'"{where["folder"]}"'
    elif "hub" in base:
        place = f'"{base["hub"]}", revision="{where["revision"]}"' if "revision" in where else f'"{base["hub"]}"'
    else:
        place = '"folder-of-the-base"'
    held = "held" in where
    return f"""\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer{", BitsAndBytesConfig" if held else ""}

tokenizer = AutoTokenizer.from_pretrained(".")
{_NF4 if held else ""}base = AutoModelForCausalLM.from_pretrained({place}{", quantization_config=held" if held else ""})
model = PeftModel.from_pretrained(base, ".")
"""
