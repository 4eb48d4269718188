"""The tally of a run: counts, and the findings that make it fail."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from http import HTTPStatus
from statistics import linear_regression

from lab.fuzz.replies import Reply
from lab.fuzz.requests import FuzzCase
from tests.support.oracle import judge

TRACES = (b"Traceback", b'File "', b".py", b"Error:", b"Exception")
EXAMPLES = 3


@dataclass(slots=True)
class Tally:
    """The counts of a run. No reply may contain `token`."""

    token: bytes
    done: int = 0
    judged: int = 0
    connections: int = 0
    closed: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    memory: list[tuple[int, float]] = field(default_factory=list)
    """Requests, and MiB of resident memory after them."""
    elapsed: float = 0.0
    open_files: tuple[int, int] = (0, 0)

    def finding(self, what: str, case: FuzzCase | None = None, seen: bytes = b"") -> None:
        """Record a finding with the case that caused it; store the first few in full."""
        self.findings[what] += 1
        if len(self.examples[what]) < EXAMPLES:
            sent = f"case {case.number} ({case.kind}) {case.wire[:300]!r}" if case else "no case"
            self.examples[what].append(f"{sent} -> {seen[:300]!r}")

    def answered(self, case: FuzzCase, reply: Reply) -> None:
        """Check the reply to a case."""
        self.statuses[reply.status] += 1
        seen = reply.head + reply.body
        if reply.status >= 500 and reply.status != HTTPStatus.HTTP_VERSION_NOT_SUPPORTED:
            self.finding("5xx", case, seen)
        elif 300 <= reply.status < 400:
            self.finding("redirect", case, seen)
        elif reply.status == 101:
            self.finding("protocol switched", case, seen)
        if self.token in seen:
            self.finding(f"input echoed ({case.kind})", case, seen)
        if any(trace in seen for trace in TRACES):
            self.finding("traceback", case, seen)
        if case.endpoint and case.number % 4 == 0:
            self.judged += 1
            violations = judge(
                case.endpoint, case.asked, reply.status, reply.content_type, reply.body
            )
            for violation in violations:
                if violation.fatal:
                    self.finding(f"contract: {violation.field} {violation.rule}", case, seen)

    def finish(self, case: FuzzCase, *, closed: bool = False) -> None:
        """Count a case that was answered, or whose connection was closed instead."""
        self.done += 1
        if closed:
            self.closed[case.kind] += 1
            if case.clean:
                self.finding("well-framed request closed without a reply", case)

    def summary(self, requests: int) -> list[str]:
        """Describe the run of so many requests in a few lines."""
        replies = ", ".join(f"{status} {n:,}" for status, n in sorted(self.statuses.items()))
        closed = ", ".join(f"{kind} {count:,}" for kind, count in self.closed.most_common(6))
        speed = f"{self.elapsed:.0f} s, {self.done / self.elapsed:,.0f}/s"
        half = self.memory[len(self.memory) // 2 :]
        slope = linear_regression(*zip(*half, strict=True)).slope * 1e6 if len(half) > 2 else 0.0
        memory = f"{self.memory[0][1]:.1f} to {self.memory[-1][1]:.1f} MiB"
        opened, left = self.open_files
        lines = [
            f"{self.done:,} requests in {speed}, {self.connections:,} connections",
            f"replies: {replies}; judged by the oracle: {self.judged:,}",
            f"closed without a reply: {self.closed.total():,} ({closed})",
            f"memory: {memory}, second half {slope:+.1f} MiB a million",
            f"open files {opened} to {left}",
        ]
        if self.done < requests:
            lines.append(f"time was up after {self.done:,} of {requests:,} requests")
        for what, count in self.findings.most_common():
            lines += [f"FOUND {count:,} x {what}", *(f"    {one}" for one in self.examples[what])]
        return [*lines, "see above" if self.findings else "found nothing"]
