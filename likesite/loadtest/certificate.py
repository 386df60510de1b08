"""What a run proves: what was answered against what is counted, post by post. Arithmetic and words, nothing else."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Verdict(Enum):
    """How a run ended; the value is the exit code of the process."""

    HOLDS = 0
    BROKEN = 1
    UNDECIDED = 2

    @classmethod
    def worst(cls, verdicts: Iterable["Verdict"]) -> "Verdict":
        """Broken outweighs undecided: a proof of loss stays one, whatever else could not be read."""
        return min(verdicts, key=[cls.BROKEN, cls.UNDECIDED, cls.HOLDS].index)


@dataclass
class Told:
    """What the service answered to the likes of one post."""

    acknowledged: int = 0
    unknown: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Figures:
    """Speed, from Locust's own statistics of the like request."""

    likes_per_second: float = 0.0  # acknowledged, from the first answer to the last
    p50: float = 0.0  # ms
    p99: float = 0.0  # ms


@dataclass
class Certificate:
    """One run's account. All numbers are likes unless they say otherwise; None: it could not be read."""

    run: str
    posts: int
    acknowledged: int = 0
    unknown: int = 0
    refused: int = 0
    counted: int | None = None
    persisted: int | None = None
    persisted_after: float | None = None  # seconds from the end of the load
    lost: int = 0
    doubled: int = 0
    falls: int = 0  # totals seen going down
    figures: Figures = Figures()
    doubts: list[str] = field(default_factory=list)  # each one leaves the run undecided

    def weigh(self, told: Mapping[int, Told], first: Mapping[int, int], last: Mapping[int, int], whole: bool) -> None:
        """Compare, post by post, what was answered with the totals read.

        `first`: live totals right after the load; an acknowledged like is in every read at once, so it is there.
        `last`: the totals once persisted. Post by post, because over the sum a like lost on one post and one doubled
        on another would cancel out. `whole` is false when a part of the answers is missing: more may be counted then.
        """
        for post in last:
            answered = told.get(post, Told())
            floor = max(answered.acknowledged, first[post])
            self.lost += max(0, floor - last[post], answered.acknowledged - first[post])
            if whole:
                ceiling = answered.acknowledged + answered.unknown
                self.doubled += max(0, max(first[post], last[post]) - ceiling)

    @property
    def verdict(self) -> Verdict:
        """Broken where the numbers contradict the promise, undecided where they are too few to tell."""
        if self.lost or self.doubled or self.falls:
            return Verdict.BROKEN
        if self.doubts or not self.acknowledged or self.persisted is None:
            return Verdict.UNDECIDED
        return Verdict.HOLDS

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.verdict is Verdict.BROKEN:
            return f"BROKEN: {self.lost} lost, {self.doubled} doubled, {self.falls} totals seen going down"
        if self.verdict is Verdict.UNDECIDED:
            return "UNDECIDED: " + ("; ".join(self.doubts) or "no like was acknowledged")
        if self.unknown:
            most = self.acknowledged + self.unknown
            return f"HOLDS WITHIN AN INTERVAL: {self.counted} counted lies in [{self.acknowledged}, {most}]"
        return "EXACT: every acknowledged like is counted once and persisted"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        numbers = {name: value for name, value in vars(self).items() if name != "figures"}
        return numbers | vars(self.figures) | {"verdict": self.sentence, "exit_code": self.verdict.value}

    def text(self) -> str:
        """For people: a line a number, the name first and the value second, so that scripts can read it too."""
        after = "" if self.persisted_after is None else f"{self.persisted_after:.1f} s after the load ended"
        rows: list[tuple[str, object, str]] = [
            ("acknowledged", self.acknowledged, "answered 202"),
            ("unknown", self.unknown, "sent, with no answer that tells whether they count"),
            ("refused", self.refused, "answered as not counted"),
            ("counted", _or_unread(self.counted), "live totals, read from the service"),
            ("persisted", _or_unread(self.persisted), after),
            ("lost", self.lost, ""),
            ("doubled", self.doubled, ""),
            ("fell", self.falls, "totals that a reader or a stream saw going down"),
            ("likes/s", f"{self.figures.likes_per_second:.1f}", ""),
            ("p50", f"{self.figures.p50:.0f} ms", ""),
            ("p99", f"{self.figures.p99:.0f} ms", ""),
            ("verdict", self.sentence, ""),
            ("exit code", self.verdict.value, ""),
        ]
        lines = [f"  {name:<14}{value!s:<12}{note}".rstrip() for name, value, note in rows]
        return "\n".join([f"Certificate of run {self.run}, {self.posts} posts", *lines])


def _or_unread(number: int | None) -> object:
    return "not read" if number is None else number
