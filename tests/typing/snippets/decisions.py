"""Fields of decisions that may be unset, and mistakes that a type checker finds."""

from pexpolicy import UNSET, Conference, MediaLocation
from pexpolicy.fields import Unset


def room(pin: str | None) -> Conference:
    return Conference(name="Garden", service_tag="", pin=UNSET if pin is None else pin)


def known(pin: str | Unset) -> Conference:
    return Conference(name="Garden", service_tag="", pin=pin)


def wrong(pin: str | None) -> None:
    Conference(name="Garden", service_tag="", pin=pin)  # error: pin
    Conference(name="Garden", service_tag="", host_view="x")  # error: host_view
    Conference(service_tag="")  # error: name
    MediaLocation("Oslo")  # error: positional|location|argument
