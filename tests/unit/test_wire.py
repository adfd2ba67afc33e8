"""Request forms: what is accepted, what is refused and which field is named for it."""

import pytest
from pydantic import ValidationError

from redoubt.errors import InputError
from redoubt.gateway.wire import BadField, ChatRequest, EmbeddingsRequest, SearchRequest, split_model

HELLO = [{"role": "user", "content": "hello"}]

VALUES = [
    None, True, 0, -1, 1.5, 10**40, "", "x", "\ud800", "\x00", "main", [], {}, [None], ["user"], {"role": "user"},
    [{"role": "user", "content": [{}]}], [{"role": "user", "content": [{"type": "text", "text": {"a": 1}}]}],
    [{"role": {}, "content": "x"}], {"type": []}, {"include_usage": 3}, "auto", [[[]]], {"": ""},
]  # fmt: skip


def chat(**fields: object) -> ChatRequest:
    return ChatRequest.model_validate({"model": "main", "messages": HELLO} | fields)


def test_the_last_user_message_is_the_question() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "well", "refusal": None, "annotations": []},
        {"role": "user", "content": "  second  "},
        {"role": "assistant", "content": None, "tool_calls": []},
    ]
    assert chat(messages=messages).question() == "second"


def test_text_parts_are_one_question() -> None:
    parts = [{"type": "text", "text": "how"}, {"type": "text", "text": "many"}]
    assert chat(messages=[{"role": "user", "content": parts}]).question() == "how\nmany"


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "tools"),
        ({"tool_choice": "required"}, "tools"),
        ({"tool_choice": {"type": "function"}}, "tools"),
        ({"n": 2}, "n"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "modalities"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "  \n"}]}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages"),
        ({"messages": [{"role": "user", "content": []}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a\x00"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": "a" * 20_001}]}, "messages"),
    ],
)
def test_what_quotes_cannot_give_is_refused_by_name(fields: dict[str, object], parameter: str) -> None:
    with pytest.raises(BadField) as caught:
        chat(**fields).question()
    assert caught.value.parameter == parameter


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": -1},
        {"max_tokens": 0},
        {"max_completion_tokens": 2**40},
        {"max_tokens": 1.5},
        {"max_tokens": True},
        {"n": 10**6},
        {"n": 0},
        {"temperature": 2.1},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"top_p": -0.1},
        {"seed": 2**70},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"stream": "yes"},
        {"model": ""},
        {"model": 7},
        {"model": "x" * 201},
        {"model": "a\ud800"},
        {"messages": []},
        {"messages": "hello"},
        {"messages": [{"role": "wizard", "content": "x"}]},
        {"messages": [{"role": "user", "content": "a\x00b"}]},
        {"messages": [{"role": "user", "content": "a\udfff"}]},
        {"messages": HELLO * 1001},
        {"chat_template": "{{ evil }}"},
        {"unheard_of": 1},
    ],
)
def test_a_value_out_of_form_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        chat(**fields)


def test_sampling_fields_are_accepted() -> None:
    asked = chat(temperature=0, top_p=1, max_tokens=100, seed=1, stop="x", user="u", n=1, tools=[], tool_choice="none")
    assert asked.question() == "hello"


@pytest.mark.parametrize(("model", "index"), [("main", "main"), ("main:quote", "main"), ("hr-2", "hr-2")])
def test_a_model_names_an_index(model: str, index: str) -> None:
    assert split_model(model) == index


@pytest.mark.parametrize("model", ["main:generate", "main@llama", "main@llama:quote", "main:quote:quote"])
def test_a_model_that_this_site_lacks_is_refused(model: str) -> None:
    with pytest.raises(InputError):
        split_model(model)


@pytest.mark.parametrize("top_k", [0, -1, 101, 10**9, 1.0, "3", True])
def test_a_search_has_a_bounded_number_of_hits(top_k: object) -> None:
    with pytest.raises(ValidationError):
        SearchRequest.model_validate({"query": "x", "top_k": top_k})


@pytest.mark.parametrize("texts", ["", [], [""], ["a"] * 257, [[1, 2]], [1], None, ["a\x00"]])
def test_embeddings_take_texts_only(texts: object) -> None:
    with pytest.raises(ValidationError):
        EmbeddingsRequest.model_validate({"model": "m", "input": texts})


@pytest.mark.parametrize("name", ChatRequest.model_fields)
def test_any_value_in_any_field_is_served_or_refused(name: str) -> None:
    for value in VALUES:
        try:
            asked = ChatRequest.model_validate({"model": "main", "messages": HELLO} | {name: value})
            assert asked.question()
            assert split_model(asked.model)
        except (ValidationError, InputError):
            continue
