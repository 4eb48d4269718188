"""Settings of ``upstream``, and warnings about valid ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pexpolicy import ConfigWarning, PluginSettings
from pexpolicy.config.outgoing import HttpSettings, is_encrypted, whole_url
from pexpolicy.config.schema import MAX_BUDGET, EndpointName
from pexpolicy.matching import When, compile_when, pitfalls

ADDED = "/policy/v1"
"""Path that Infinity and this plugin append to the URL of a policy server."""


def _base_url(written: str) -> str:
    """Return the URL before ``/policy/v1``; credentials in it are refused."""
    url = whole_url(written, encoded=True)
    if url.raw_query_string or url.raw_fragment or "?" in written or "#" in written:
        raise ValueError("leave out what begins with ? or #")
    if ADDED in url.raw_path:
        raise ValueError(f"leave out {ADDED}, which is added as Infinity does it")
    return written.rstrip("/")


BaseURL = Annotated[str, AfterValidator(_base_url)]


class TargetBreaker(PluginSettings):
    """``breaker`` of a target. Times in seconds."""

    failures: int = Field(5, ge=1, le=10_000)
    """Failures that open it."""
    window: float = Field(30.0, gt=0.0)
    """Seconds within which they count."""
    pause: float = Field(10.0, gt=0.0)
    """How long it stays open; then one call tries the target."""


class TargetSettings(HttpSettings):
    """``[plugins.upstream.settings.targets.NAME]``: one policy server. Times in seconds."""

    url: BaseURL
    """The URL as in Infinity's policy profile, base path included, without ``/policy/v1``."""
    timeout: float = Field(1.5, gt=0.0, le=MAX_BUDGET)
    """For the whole reply, the connection included."""
    connections: int = Field(64, ge=1, le=1024)
    """Concurrent calls; further ones wait within their timeout."""
    verify: bool = True
    """False accepts any certificate from any server."""
    breaker: TargetBreaker = TargetBreaker()
    """Circuit breaker of each request type."""

    @model_validator(mode="after")
    def _verify_has_a_use(self) -> Self:
        if not self.verify and self.url.startswith("http://"):
            raise ValueError("verify is for https, and the URL is http")
        if self.ca_file is not None and not self.verify:
            msg = "ca_file names the trusted certificates, and verify = false accepts any; keep one"
            raise ValueError(msg)
        return self


class RouteSettings(PluginSettings):
    """``[[plugins.upstream.settings.routes]]``: which calls go where."""

    targets: list[str] = Field(min_length=1)
    """Asked in this order; the next one when one fails."""
    endpoints: list[EndpointName] = []
    """The requests that the route is for; all six when none is named."""
    when: When = Field(default_factory=When)
    """Condition on the request."""
    override: dict[str, Any] = {}
    """Fields that replace those of the result; only for a route with one endpoint."""
    on_continue: Literal["decide", "abstain"] = "decide"
    """Meaning of a reply without a result: Infinity continues, or the next target is asked."""
    compare_with: str | None = None
    """Target that is asked after the reply, to compare its answer."""


class UpstreamSettings(PluginSettings):
    """``[plugins.upstream.settings]``."""

    targets: dict[str, TargetSettings] = Field(min_length=1)
    """The policy servers, by names of your own."""
    routes: list[RouteSettings] = []
    """Asked in this order; without any, each call goes to the targets in their order."""


def config_warnings(settings: UpstreamSettings) -> Iterator[ConfigWarning]:
    """Yield warnings of unverified targets, timeouts that do not fit, doubtful conditions and
    unused targets.
    """
    for name, target in settings.targets.items():
        key: tuple[str | int, ...] = ("targets", name)
        if not target.verify:
            text = "anyone on the network path can read and answer calls; name a ca_file instead"
            yield ConfigWarning((*key, "verify"), text)
        if target.authorization() and not is_encrypted(target.url):
            text = "the credentials go over the network in clear; use https"
            yield ConfigWarning((*key, "url"), text)
    routes = settings.routes or [RouteSettings(targets=list(settings.targets))]
    for number, route in enumerate(routes):
        key = ("routes", number) if settings.routes else ("targets",)
        targets = [settings.targets[name] for name in route.targets]
        wanted = sum(target.timeout for target in targets)
        is_default = len(targets) == 1 and "timeout" not in targets[0].model_fields_set
        if wanted > settings.plugin_timeout and not is_default:
            text = (
                f"the timeouts of the targets add up to {wanted:g} s, and the plugin has "
                f"{settings.plugin_timeout:g} s: when the first ones are slow, the last is not "
                "asked; raise timeout of the plugin, or lower theirs"
            )
            yield ConfigWarning(key, text)
        for text in pitfalls(compile_when(route.when)):
            yield ConfigWarning((*key, "when"), text)
    used = {name for r in routes for name in (*r.targets, r.compare_with)}
    for name in settings.targets:
        if name not in used:
            yield ConfigWarning(("targets", name), "no route asks this target")
