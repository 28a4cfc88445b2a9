"""What a request means to those who do the work. Pure."""

from waifu_client import protocol
from waifu_llm.supervision.jobs import Job
from waifu_worker import wire


def job_of(request: protocol.Generate, deadline: float | None, size: int) -> Job:
    """The generation that is asked for; `deadline` on the session's clock, `size` the memory that the request takes."""
    given = request.params
    stops = given.stop_tokens or ()
    params = wire.Params(
        model_id=given.model_id,
        character_name=given.character_name,
        temperature=given.temperature,
        max_output_length=given.max_output_length,
        stops=tuple([stop for stop in stops if isinstance(stop, str)]),
        stop_ids=tuple([stop for stop in stops if isinstance(stop, int)]),
        top_p=given.top_p,
        top_k=given.top_k,
        min_p=given.min_p,
        repeat_penalty=given.repeat_penalty,
        repeat_last_n=given.repeat_last_n,
        presence_penalty=given.presence_penalty,
        frequency_penalty=given.frequency_penalty,
        seed=given.seed,
    )
    messages = tuple([wire.ChatMessage(role=m.role, content=m.content, name=m.name) for m in request.messages])
    return Job(params, messages, request.prompt, request.stream, deadline, size)


def seconds_of(milliseconds: int | None) -> float | None:
    """A timeout in seconds, None for none: that is asked for with 0 too."""
    return milliseconds / 1000 if milliseconds else None
