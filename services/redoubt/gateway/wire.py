"""What callers send, checked: OpenAI's request forms as far as they make sense here, and no further.

An unknown field is refused rather than ignored: a caller who believes that it took effect would be misled. OpenAI's
sampling fields are checked and then have no effect in quote mode, where nothing is sampled.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from redoubt.errors import InputError

MAX_QUESTION_CHARS = 20_000
MAX_INPUTS = 256  # texts in one embeddings request
MODES = ("quote",)


def _sayable(text: str) -> str:
    """Refuse what neither Postgres nor UTF-8 can carry: NUL, and halves of surrogate pairs."""
    if "\x00" in text:
        raise ValueError("must not contain the character U+0000")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain unpaired surrogates")
    return text


Text = Annotated[StrictStr, AfterValidator(_sayable)]
Name = Annotated[Text, Field(min_length=1, max_length=200)]
Question = Annotated[Text, Field(max_length=MAX_QUESTION_CHARS)]
Number = Annotated[StrictFloat | StrictInt, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(BaseModel):
    """One message; of all of them only the last user message is read, as the question."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[dict[StrictStr, Any]] | None = None


class StreamOptions(_Part):
    """What a stream carries besides the answer."""

    include_usage: StrictBool | None = None
    include_obfuscation: StrictBool | None = None


class ChatRequest(_Part):
    """`POST /v1/chat/completions`."""

    model: Name = Field(description="`<index>` or `<index>:quote`")
    messages: list[Message] = Field(min_length=1, max_length=1000)
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[StrictInt, Field(ge=1, le=128)] | None = None
    max_tokens: Annotated[StrictInt, Field(ge=1, le=2**31)] | None = None
    max_completion_tokens: Annotated[StrictInt, Field(ge=1, le=2**31)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = None
    seed: Annotated[StrictInt, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Text | Annotated[list[Text], Field(max_length=4)] | None = None
    user: Annotated[Text, Field(max_length=512)] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: StrictBool | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    response_format: dict[StrictStr, Any] | None = None
    modalities: list[StrictStr] | None = None
    audio: dict[StrictStr, Any] | None = None
    logprobs: StrictBool | None = None
    top_logprobs: Annotated[StrictInt, Field(ge=0, le=20)] | None = None
    logit_bias: dict[StrictStr, Number] | None = None
    metadata: dict[StrictStr, StrictStr] | None = None
    store: StrictBool | None = None
    service_tier: StrictStr | None = None
    reasoning_effort: StrictStr | None = None
    verbosity: StrictStr | None = None
    prediction: dict[StrictStr, Any] | None = None
    prompt_cache_key: StrictStr | None = None
    prompt_cache_retention: StrictStr | None = None
    safety_identifier: StrictStr | None = None
    web_search_options: dict[StrictStr, Any] | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def question(self) -> str:
        """The last user message as text; refuses whatever asks for more than quotes can give."""
        self._refuse_the_impossible()
        asked = next((message for message in reversed(self.messages) if message.role == "user"), None)
        if asked is None:
            raise BadField("messages", "there is no user message", why="the last user message is the question")
        text = _text(asked.content).strip()
        if not text:
            raise BadField("messages", "the last user message is empty", why="it is the question")
        if len(text) > MAX_QUESTION_CHARS:
            raise BadField("messages", f"the question is longer than {MAX_QUESTION_CHARS} characters")
        return text

    def _refuse_the_impossible(self) -> None:
        if self.tools or self.functions or self.tool_choice not in (None, "none", "auto") or self.function_call:
            raise BadField(
                "tools",
                "an index answers with quotes from documents and calls no tools",
                fix="leave out `tools`; give the answer's citations to your own tools instead",
            )
        if self.n not in {None, 1}:
            raise BadField("n", "only n = 1 is possible", why="the same question has one answer")
        if self.stream_options is not None and not self.stream:
            raise BadField("stream_options", "`stream_options` is only allowed with `stream: true`")
        if self.response_format is not None and self.response_format.get("type") != "text":
            raise BadField("response_format", "an index answers in text", fix="read the `redoubt` object for structure")
        if self.audio is not None or (self.modalities or ["text"]) != ["text"]:
            raise BadField("modalities", "an index answers in text only")
        if self.logprobs or self.top_logprobs:
            raise BadField("logprobs", "quotes have no token probabilities")


class SearchRequest(_Part):
    """`POST /v1/search`."""

    query: Annotated[Question, Field(min_length=1)]
    index: Name | None = Field(None, description="the site's own index if left out")
    top_k: Annotated[StrictInt, Field(ge=1, le=100)] = 10


class EmbeddingsRequest(_Part):
    """`POST /v1/embeddings`: texts only, no token lists."""

    model: Name
    input: (
        Annotated[Question, Field(min_length=1)]
        | Annotated[list[Annotated[Question, Field(min_length=1)]], Field(min_length=1, max_length=MAX_INPUTS)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[StrictInt, Field(ge=1, le=65536)] | None = None
    user: Annotated[Text, Field(max_length=512)] | None = None

    @property
    def texts(self) -> list[str]:
        """The inputs as a list."""
        return [self.input] if isinstance(self.input, str) else self.input


def split_model(model: str) -> str:
    """The index that a model's name means: `<index>` or `<index>:quote`."""
    index, _, mode = model.partition(":")
    if mode and mode not in MODES:
        raise BadField("model", f"there is no mode {mode[:40]!r}", fix="use `<index>` or `<index>:quote`")
    if "@" in index:
        raise BadField("model", "this site has no generating models yet", fix="use `<index>` or `<index>:quote`")
    return index


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content:
        if part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise BadField("messages", "only text can be asked", why="a part of the message is not of the type `text`")
        try:
            texts.append(_sayable(part["text"]))
        except ValueError as error:
            raise BadField("messages", f"the question {error}") from error
    return "\n".join(texts)


class BadField(InputError):
    """A field that cannot be served; `parameter` names it, as OpenAI's `param` does."""

    def __init__(self, parameter: str, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.parameter = parameter
