"""What was seen: counts, and the findings that make a run fail."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tests.experiments.fuzz.replies import Reply
from tests.experiments.fuzz.requests import Shot
from tests.support.oracle import judge

TRACES = (b"Traceback", b'File "', b".py", b"Error:", b"Exception")
EXAMPLES = 3


@dataclass(slots=True)
class Tally:
    """The counts of a run. `token` is what no reply may hold."""

    token: bytes
    done: int = 0
    judged: int = 0
    connections: int = 0
    closed: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def finding(self, what: str, shot: Shot | None = None, seen: bytes = b"") -> None:
        """Note a finding, with the shot that brought it about; the first few are kept in full."""
        self.findings[what] += 1
        if len(self.examples[what]) < EXAMPLES:
            sent = f"shot {shot.number} ({shot.kind}) {shot.wire[:300]!r}" if shot else "no shot"
            self.examples[what].append(f"{sent} -> {seen[:300]!r}")

    def answered(self, shot: Shot, reply: Reply) -> None:
        """Judge a reply to a shot."""
        self.statuses[reply.status] += 1
        seen = reply.head + reply.body
        if reply.status >= 500:
            self.finding("5xx", shot, seen)
        elif 300 <= reply.status < 400:
            self.finding("redirect", shot, seen)
        elif reply.status == 101:
            self.finding("protocol switched", shot, seen)
        if self.token in seen:
            self.finding(f"input echoed ({shot.kind})", shot, seen)
        if any(trace in seen for trace in TRACES):
            self.finding("traceback", shot, seen)
        if shot.endpoint and shot.number % 4 == 0:
            self.judged += 1
            violations = judge(
                shot.endpoint, shot.asked, reply.status, reply.content_type, reply.body
            )
            for violation in violations:
                if violation.fatal:
                    self.finding(f"contract: {violation.field} {violation.rule}", shot, seen)

    def concluded(self, shot: Shot, *, closed: bool = False) -> None:
        """Count a shot that has had its reply, or a closed connection in place of one."""
        self.done += 1
        self.kinds[shot.kind] += 1
        if closed:
            self.closed[shot.kind] += 1
            if shot.clean:
                self.finding("well-framed request closed without a reply", shot)
