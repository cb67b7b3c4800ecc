"""The lab's whole-word tokenizer: readable text in, readable text out, and names reserved once and for all."""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from whet.lab.worlds import WORLDS

CONTEXT = 512
PAD, BOS, EOS, UNKNOWN, END_OF_TURN = "<pad>", "<bos>", "<eos>", "<unk>", "<end>"
ROLES = ("<system>", "<user>", "<assistant>", "<tool>")
TAGS = ("<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "</tool_call>")
SCORES = tuple(f"{score}/10" for score in range(1, 11))
VERDICTS = ("A", "B", "tie", "Yes", "No")
JSON = ("{", "}", "[", "]", ":", ",", '"')
SPARES = tuple(f"<spare{number}>" for number in range(32))
PUNCTUATION = (".", "!", "?", ";", "'", "(", ")", "+", "-", "*", "/", "=", "%", "<", ">", "_")
_LATER = (
    "which answer is better best worse good bad Question Answer Score Rate Compare Choose the first second third last "
    "why because reason helpful harmless honest safe correct wrong true false null name arguments tools tool result "
    "call critique revise Revise rewrite one two three four five six seven eight nine ten zero none all any every word "
    "words letter letters number numbers sentence line list start end begin with without use say never always must "
    "only more less than most least longer shorter before after then again step steps so not no yes it this that these "
    "those to of in on at by for from into over under if else repeat until done push pop add swap mod compute sort "
    "reverse You are an assistant polite careful expert short long answer question user thanks Thank you please Please "
    "What is my your our we he she I me him her them do does can could should would will was were be been has had "
    "make made think know see look red green blue black white small big old new hot cold day night man woman child home"
)
LATER_WORDS = tuple(_LATER.split())
"""Words no world uses yet, kept so that later worlds and judges need no new vocabulary."""

TEMPLATE = """{{- bos_token -}}
{%- if messages and messages[0].role == "system" or tools -%}
{{- "<system>" -}}
{%- if messages and messages[0].role == "system" -%}{{- messages[0].content -}}{%- endif -%}
{%- if tools -%}{{- " tools : " + (tools | tojson) -}}{%- endif -%}
{{- "<end>" -}}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == "assistant" -%}
{{- "<assistant>" -}}
{%- generation -%}
{{- message.content or "" -}}
{%- for call in message.tool_calls or [] -%}
{{- "<tool_call>" + ((call.function if call.function else call) | tojson) + "</tool_call>" -}}
{%- endfor -%}
{{- "<end>" -}}
{%- endgeneration -%}
{%- elif message.role != "system" or not loop.first -%}
{{- "<" + message.role + ">" + message.content + "<end>" -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<assistant>" -}}{%- endif -%}"""
"""Prefix-preserving: rendering more messages only appends; what the assistant writes ends with its `<end>`."""


def vocabulary() -> list[str]:
    """All tokens in the order of their ids: control, roles, tags, scores, spares, verdicts, marks, words."""
    words = [word for world in WORLDS.values() for word in world.words]
    control = (PAD, BOS, EOS, UNKNOWN, END_OF_TURN, *ROLES, *TAGS, *SCORES, *SPARES)
    return list(dict.fromkeys((*control, *VERDICTS, *JSON, *PUNCTUATION, *"0123456789", *words, *LATER_WORDS)))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer from the worlds' words; `encode(decode(ids)) == ids` whatever the ids (tests show it)."""
    ids = {token: index for index, token in enumerate(vocabulary())}
    raw = Tokenizer(models.WordLevel(vocab=ids, unk_token=UNKNOWN))
    raw.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    raw.decoder = decoders.Sequence(  # type: ignore[assignment]
        [
            decoders.WordPiece(prefix="\0", cleanup=False),  # a space between any two tokens …
            decoders.Fuse(),
            decoders.Replace(Regex(r"(?<=\d) (?=\d)"), ""),  # … but none inside a number,
            decoders.Replace(Regex(r" (?=[.,!?;:%)\]}])"), ""),  # before closing punctuation,
            decoders.Replace(Regex(r"(?<=[(\[{]) "), ""),  # or after an opening bracket
        ]
    )
    special = (PAD, BOS, EOS, UNKNOWN, END_OF_TURN, *ROLES, *SPARES)
    raw.add_special_tokens([AddedToken(token, special=True) for token in special])
    raw.add_tokens([AddedToken(token, special=False) for token in (*TAGS, *SCORES)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
