"""The count of one kind of attack."""

from dataclasses import dataclass, field


@dataclass
class Count:
    """How often an attack was tried, and what succeeded."""

    name: str
    tried: int = 0
    found: list[str] = field(default_factory=list)

    def add(self, is_found: bool, what: str) -> None:
        """Count one attempt."""
        self.tried += 1
        if is_found:
            self.found.append(what)

    def __str__(self) -> str:
        text = f"{self.name}: {self.tried:,} tried, {len(self.found)} found"
        return "\n  ".join([text, *self.found[:10]])
