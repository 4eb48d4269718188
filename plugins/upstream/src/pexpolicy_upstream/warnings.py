"""Warnings about settings that are valid."""

from __future__ import annotations

from collections.abc import Iterator

from yarl import URL

from pexpolicy import ConfigWarning
from pexpolicy.config.outgoing import is_loopback
from pexpolicy.matching import compile_when, pitfalls
from pexpolicy_upstream.settings import RouteSettings, TargetSettings, UpstreamSettings


def config_warnings(settings: UpstreamSettings) -> Iterator[ConfigWarning]:
    """Yield warnings of unverified targets, timeouts that do not fit, doubtful conditions and
    unused targets.
    """
    for name, target in settings.targets.items():
        yield from _of_target(("targets", name), target)
    routes = settings.routes or [RouteSettings(targets=list(settings.targets))]
    for number, route in enumerate(routes):
        key = ("routes", number) if settings.routes else ("targets",)
        yield from _of_times(key, route, settings)
        for text in pitfalls(compile_when(route.when)):
            yield ConfigWarning((*key, "when"), text)
    used = {name for r in routes for name in (*r.targets, r.compare_with)}
    for name in settings.targets:
        if name not in used:
            yield ConfigWarning(("targets", name), "no route asks this target")


def _of_target(key: tuple[str, ...], target: TargetSettings) -> Iterator[ConfigWarning]:
    if not target.verify:
        text = "anyone on the network path can read and answer the calls; name a ca_file instead"
        yield ConfigWarning((*key, "verify"), text)
    url = URL(target.url, encoded=True)
    if target.user is not None and url.scheme == "http" and not is_loopback(url.host):
        yield ConfigWarning(
            (*key, "url"), "user and password go over the network in clear; use https"
        )


def _of_times(
    key: tuple[str | int, ...], route: RouteSettings, settings: UpstreamSettings
) -> Iterator[ConfigWarning]:
    """Warn of a plugin timeout shorter than those of its targets."""
    wanted = sum(settings.targets[name].timeout for name in route.targets)
    is_only_one_by_default = len(route.targets) == 1 and not any(
        "timeout" in settings.targets[name].model_fields_set for name in route.targets
    )
    if wanted > settings.plugin_timeout and not is_only_one_by_default:
        text = (
            f"the timeouts of the targets add up to {wanted:g} s, and the plugin has "
            f"{settings.plugin_timeout:g} s: when the first ones are slow, the last is not asked; "
            "raise timeout of the plugin, or lower theirs"
        )
        yield ConfigWarning(key, text)
