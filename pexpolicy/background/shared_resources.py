"""What the policies of one process share: sources, and the locks and counts of jobs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pexpolicy.background.job_locks import JobLocks
from pexpolicy.background.schedule import JobRuns
from pexpolicy.background.source_pool import SourcePool


@dataclass(frozen=True, slots=True)
class SharedResources:
    """What the policies of one process share. Worker processes share ``locks``, too."""

    sources: SourcePool = field(default_factory=SourcePool)
    locks: JobLocks = field(default_factory=JobLocks)
    job_runs: JobRuns = field(default_factory=Counter)
    """Runs that were not added to the metrics yet."""

    def take_job_runs(self) -> JobRuns:
        """Return the runs since the last call."""
        runs: JobRuns = Counter(self.job_runs)
        self.job_runs.clear()
        return runs
