"""One run as the organiser sees it: who takes part, what they reported, and the draft of its certificate."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from locust.stats import RequestStats

from likesite.loadtest.certificate import Certificate, Figures, Told
from likesite.loadtest.run import Report

LIKE = ("like", "POST")
"""The like request in Locust's statistics: name and method."""


@dataclass
class Gathering:
    """A run, from its first message to its certificate."""

    name: str
    budget: int | None  # likes to send, over all processes
    posts: list[int] = field(default_factory=list)
    awaited: set[str] = field(default_factory=set)  # nodes that were told of the run
    reports: dict[str, Report] = field(default_factory=dict)
    closed: bool = False
    progress: str = "making posts"
    certificate: Certificate | None = None

    @property
    def missing(self) -> set[str]:
        """Nodes that were told of the run and have not reported."""
        return self.awaited - self.reports.keys()

    def shares(self) -> Iterator[tuple[str, int | None]]:
        """Each node's part of the budget; together they are the whole of it."""
        for n, node in enumerate(sorted(self.awaited)):
            yield node, None if self.budget is None else (self.budget + n) // len(self.awaited)

    def told(self) -> dict[int, Told]:
        """What was answered, post by post, over all reports."""
        answers = {post: Told() for post in self.posts}
        for report in self.reports.values():
            for post, acknowledged, unknown, refused in report["likes"]:
                answers[post].acknowledged += acknowledged
                answers[post].unknown += unknown
                answers[post].refused += refused
        return answers

    def draft(self, figures: Figures) -> Certificate:
        """The certificate before the service was asked."""
        told = self.told().values()
        draft = Certificate(self.name, len(self.posts), figures=figures)
        draft.acknowledged = sum(post.acknowledged for post in told)
        draft.unknown = sum(post.unknown for post in told)
        draft.refused = sum(post.refused for post in told)
        draft.falls = sum(report["falls"] for report in self.reports.values())
        draft.doubts += [f"no report from {node}" for node in sorted(self.missing)]
        if self.budget is not None and draft.acknowledged + draft.unknown < self.budget:
            draft.doubts.append(f"only {draft.acknowledged} of {self.budget} likes were acknowledged")
        return draft

    def figures_are_in(self, stats: RequestStats) -> bool:
        """Whether Locust's statistics hold every like request that was reported; workers send theirs every 3 s."""
        requests = sum(report["requests"] for report in self.reports.values())
        return not requests or (LIKE in stats.entries and stats.entries[LIKE].num_requests >= requests)


def figures(stats: RequestStats) -> Figures:
    """Speed of the like request, as Locust measured it."""
    if LIKE not in stats.entries:
        return Figures()
    entry = stats.entries[LIKE]
    seconds = (entry.last_request_timestamp or entry.start_time) - entry.start_time
    rate = (entry.num_requests - entry.num_failures) / seconds if seconds else 0.0
    return Figures(rate, entry.get_response_time_percentile(0.5), entry.get_response_time_percentile(0.99))
