"""Directory information: the phone book that registered apps search."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from pexpolicy.endpoints.base import Endpoint
from pexpolicy.endpoints.shared_parameters import BEFORE_V29, NodeRequest
from pexpolicy.models.contract import contract_of
from pexpolicy.models.decision import Continue, Decision, Model, OptionalBool, Text
from pexpolicy.models.request import Parameter, alias, integer, typed
from pexpolicy.models.rules import PERSONAL, Privacy


class DirectoryInformationRequest(NodeRequest):
    """Which entries of the phone book match the search text ``q``?"""

    since = "v13"

    q = Parameter(typed, privacy=Privacy.PERSONAL)
    """Search text; may be empty or one letter."""
    registration_alias = Parameter(alias, privacy=Privacy.PERSONAL)
    """The alias that searches."""
    limit = Parameter(integer)
    """Maximum number of entries; 10 in every capture."""
    call_tag = Parameter(typed, since=BEFORE_V29, privacy=Privacy.PERSONAL)
    """Tag of the call, free text."""


class DirectoryEntry(
    Model,
    consequence="Infinity would drop the whole list and show its own entries only",
    fields=dict.fromkeys(("alias", "description", "username"), PERSONAL),
):
    """One line of the phone book."""

    alias: Text
    """Alias to call."""
    description: Text
    """Text that is shown."""
    username: Text = ""
    """User name, may be empty."""


class Directory(Decision, consequence=contract_of(DirectoryEntry).consequence):
    """Entries in the order in which they are shown, at most ``limit`` of the request."""

    entries: list[DirectoryEntry]
    """The entries, sorted."""
    ignore_local: OptionalBool = UNSET
    """Show no entries of Infinity's own. Default: false."""


class _DirectoryInformation(Endpoint[DirectoryInformationRequest]):
    plain_answer = "a list of DirectoryEntry, a result as a dictionary"

    def check_answer(self, answer: object, request: DirectoryInformationRequest) -> Decision:
        """Accept a list as the entries, and leave out those after the limit of the request."""
        listed = issubclass(type(answer), list)
        decision = self.to_decision({"entries": answer} if listed else answer)
        limit = request.limit
        if limit is None or not isinstance(decision, Directory):
            return decision
        fields = decision.set_fields()
        if len(fields["entries"]) <= limit:
            return decision
        fields["entries"] = fields["entries"][: max(limit, 0)]
        cut = Directory.from_result(fields, reason=decision.reason)
        return cut.with_warnings(*(w for w in decision.warnings if w not in cut.warnings))

    def envelope(self, decision: Decision) -> dict[str, Any]:
        """Return an envelope whose ``result`` is the list, without an action (documented, v13)."""
        if not isinstance(decision, Directory):
            return {"status": "success", "result": []}
        fields = decision.set_fields()
        for entry in fields["entries"]:
            entry.setdefault("username", "")
        envelope: dict[str, Any] = {"status": "success", "result": fields["entries"]}
        if "ignore_local" in fields:
            envelope["ignore_local"] = fields["ignore_local"]
        return envelope


ENDPOINT = _DirectoryInformation(
    name="directory_information",
    path="/policy/v1/registrations",
    request=DirectoryInformationRequest,
    decisions=(Directory, Continue),
    refusal=Directory(entries=[], ignore_local=True),
    can_reject=False,
)
