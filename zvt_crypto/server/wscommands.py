"""What a client may say on ``/ws``; see "Real-time WebSocket API" of ``crypto-api.md``."""

from __future__ import annotations

from typing import Annotated, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from zvt_crypto.core.errors import InvalidArgument, unknown_value
from zvt_crypto.server.errors import invalid_parameter
from zvt_crypto.stream.broadcast.backlog import DropPolicy
from zvt_crypto.stream.broadcast.finding import Wanted
from zvt_crypto.stream.broadcast.outflow import BUFFER_SIZE

#: Symbols of one command.
MOST_SYMBOLS: Final = 200
_MOST_STREAMS: Final = 50

Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StreamParams(_Strict):
    """One stream of some markets."""

    stream: Name
    provider: Name
    symbols: list[Name] = Field(default=[], max_length=MOST_SYMBOLS)
    interval: Name | None = None
    depth: int | None = None

    def wanted(self) -> Wanted:
        """The same for the hub."""
        return Wanted(self.stream, self.provider, self.symbols, self.interval, self.depth)


class Resume(_Strict):
    """The last message of a channel that a client has."""

    epoch: Name
    sequence: int = Field(ge=0)


class ChannelParams(_Strict):
    """Streams, one in place or several in a list, under a name of the client's."""

    channel: Name | None = None
    streams: list[StreamParams] | None = Field(default=None, min_length=1, max_length=_MOST_STREAMS)
    stream: Name | None = None
    provider: Name | None = None
    symbols: list[Name] = Field(default=[], max_length=MOST_SYMBOLS)
    interval: Name | None = None
    depth: int | None = None

    def chosen(self) -> list[Wanted]:
        """What is meant; empty where no stream is named.

        Raises:
            InvalidArgument: Some of it is missing, or both forms are mixed.
        """
        in_place = {
            name: getattr(self, name) for name in StreamParams.model_fields if name in self.model_fields_set
        }
        if self.streams is not None and in_place:
            raise InvalidArgument(
                f"streams is given, and so is {next(iter(in_place))}",
                suggestions=("give either streams or stream, provider and symbols",),
            )
        if self.streams is not None:
            return [one.wanted() for one in self.streams]
        if not in_place:
            return []
        for name in ("stream", "provider"):
            if in_place.get(name) is None:
                raise InvalidArgument(f"parameter {name!r} is missing", suggestions=(f"give {name}",))
        return [StreamParams(**in_place).wanted()]

    @property
    def name(self) -> bytes | None:
        """The client's name in JSON."""
        return None if self.channel is None else orjson.dumps(self.channel)


class SubscribeParams(ChannelParams):
    """Parameters of ``subscribe``."""

    resume: dict[Key, Resume] = Field(default={}, max_length=MOST_SYMBOLS)


class FlowParams(_Strict):
    """Parameters of ``configure_flow``."""

    max_messages_per_second: float | None = Field(default=None, gt=0, le=1_000_000, allow_inf_nan=False)
    buffer_size: int = Field(default=BUFFER_SIZE, ge=1, le=BUFFER_SIZE)
    drop_policy: DropPolicy = "disconnect"


class NoParams(_Strict):
    """Parameters of methods that have none."""


METHODS: Final[dict[str, type[_Strict]]] = {
    "subscribe": SubscribeParams,
    "unsubscribe": ChannelParams,
    "configure_flow": FlowParams,
    "ping": NoParams,
    "list": NoParams,
}
#: Methods of private streams, which take parameters that are not looked at.
PRIVATE_METHODS: Final = ("auth",)
_LONGEST_ID: Final = 64


def read_json(data: bytes) -> dict[str, Any]:
    """A client's message.

    Raises:
        InvalidArgument: It is no JSON object.
    """
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(
            f"the message is not JSON: {error}", suggestions=('send {"method": ..., "params": {...}}',)
        ) from error
    if not isinstance(found, dict):
        raise InvalidArgument(
            "the message is no JSON object", suggestions=('send {"method": ..., "params": {...}}',)
        )
    return found


def id_of(message: dict[str, Any]) -> str | int | None:
    """What the client tells its commands apart by; None where it gives nothing usable."""
    given = message.get("id")
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    return given if isinstance(given, str) and len(given) <= _LONGEST_ID else None


def method_of(message: dict[str, Any]) -> str:
    """The command's name.

    Raises:
        InvalidArgument: There is none of that name, or something else stands beside it.
    """
    method = message.get("method")
    known = (*METHODS, *PRIVATE_METHODS)
    if not isinstance(method, str) or method not in known:
        raise unknown_value("method", str(method)[:_LONGEST_ID], known)
    beside = sorted(map(str, message.keys() - {"method", "params", "id"}))
    if beside:
        raise InvalidArgument(
            f"unknown field {beside[0][:_LONGEST_ID]!r}", suggestions=("allowed: method, params, id",)
        )
    return method


def params_of(method: str, message: dict[str, Any]) -> Any:
    """The command's parameters, as the model of ``METHODS``.

    Raises:
        InvalidArgument: One of them is not allowed.
    """
    params = message.get("params")
    model = METHODS[method]
    try:
        return model.model_validate({} if params is None else params)
    except ValidationError as error:
        raise invalid_parameter(error, model.model_fields) from error
