"""The gateway's settings: one struct, filled from `FETCHQ_*` and then from flags."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from msgspec import Meta

from fetchq.command.listen_address import ListenAddress, parse_address
from fetchq.command.settings import InvalidSetting, ProgramSettings
from fetchq.errors import InvalidRequest
from fetchq.logs.setup import LogFormat, LogLevel
from fetchq.store.address import DEFAULT_URL
from fetchq.store.keys import DEFAULT_QUEUE, Keys, check_namespace, check_queue

_Name = Annotated[str, Meta(min_length=1, max_length=200)]


class GatewaySettings(ProgramSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the gateway runs. Each field is read from the variable that `variable_of` names; a flag outranks it."""

    redis_url: Annotated[str, Meta(description="Address of Redis.")] = DEFAULT_URL
    queue: Annotated[
        tuple[_Name, ...], Meta(min_length=1, max_length=100, description="Names of the queues, without blanks.")
    ] = (DEFAULT_QUEUE,)
    namespace: Annotated[str, Meta(max_length=200, description="Prefix of every key name, such as a hash tag.")] = ""
    listen: Annotated[str, Meta(description="HOST:PORT or unix:PATH on which requests are answered.")] = (
        "127.0.0.1:8080"
    )
    metrics_only: Annotated[bool, Meta(description="Whether only metrics and health checks are answered.")] = False
    allow_host: Annotated[
        tuple[_Name, ...], Meta(description="Host headers, beside those of this machine, answered on loopback.")
    ] = ()
    start_wait_s: Annotated[
        float, Meta(ge=0, le=86_400, description="Time that a starting gateway waits for Redis.")
    ] = 20.0
    log_level: Annotated[LogLevel, Meta(description="The least severe log lines: debug, info, warning or error.")] = (
        LogLevel.INFO
    )
    log_format: Annotated[LogFormat, Meta(description="The shape of log lines: text or json.")] = LogFormat.TEXT

    def __post_init__(self) -> None:
        try:
            check_namespace(self.namespace)
            for name in self.queue:
                check_queue(name)
        except InvalidRequest as problem:
            raise InvalidSetting.of(problem.field, problem.problem) from None
        try:
            parse_address(self.listen)
        except ValueError as problem:
            raise InvalidSetting.of("listen", str(problem)) from None
        if not self.is_local and not self.metrics_only:
            raise InvalidSetting.of(
                "listen", f"{self.listen} can be reached from other machines: add --metrics-only, or listen on loopback"
            )

    @property
    def address(self) -> ListenAddress:
        return parse_address(self.listen)

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the address: a unix socket, or loopback by its number or as `localhost`."""
        address = self.address
        if address.path or address.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(address.host).is_loopback
        except ValueError:
            return False

    @property
    def hosts(self) -> tuple[str, ...] | None:
        """The Host headers that are answered beside those of this machine; None: every one.

        Other machines know an address by names that the gateway cannot know, and browsers do not reach a unix socket.
        """
        on_loopback = self.is_local and not self.address.path
        return self.allow_host if on_loopback or self.allow_host else None

    @property
    def keys(self) -> tuple[Keys, ...]:
        """The key names of each queue."""
        return tuple(Keys(queue=name, namespace=self.namespace) for name in dict.fromkeys(self.queue))
