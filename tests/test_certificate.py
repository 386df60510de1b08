"""The arithmetic of a load run's certificate, and what it takes an answer for."""

from __future__ import annotations

import pytest

from likesite.loadtest import notary, service
from likesite.loadtest.certificate import Certificate, Told, Verdict
from likesite.loadtest.notary import Notary
from likesite.loadtest.outcome import Outcome, judge
from likesite.loadtest.run import Run
from likesite.loadtest.service import Away, Service, Total


class Book:
    """Totals as a service would give them, from a list of answers; the last one stays."""

    def __init__(self, *looks: dict[int, tuple[int, int]]) -> None:
        self.looks = list(looks)

    def live(self, posts: list[int]) -> dict[int, int]:
        return {post: sum(self.looks[0][post]) for post in posts if post in self.looks[0]}

    def total(self, post: int) -> Total:
        persisted, pending = self.looks[0][post]
        if len(self.looks) > 1:
            self.looks.pop(0)
        return Total(persisted + pending, persisted, pending)


def certify(book: Book, told: dict[int, Told], whole: bool = True) -> Certificate:
    said = told.values()
    draft = Certificate("run", len(told), sum(t.acknowledged for t in said), sum(t.unknown for t in said))
    Notary(book, lambda _words: None).certify(draft, told, list(told), whole)  # type: ignore[arg-type]  # reads alike
    return draft


@pytest.fixture(autouse=True)
def no_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notary, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(notary, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(service, "AGAIN_SECONDS", 0.01)


def test_likes_counted_and_persisted_are_certified() -> None:
    certificate = certify(Book({1: (3, 2)}, {1: (5, 0)}), {1: Told(acknowledged=5)})
    assert (certificate.counted, certificate.persisted, certificate.verdict) == (5, 5, Verdict.HOLDS)
    assert certificate.sentence.startswith("EXACT")


def test_a_loss_on_one_post_and_a_double_on_another_do_not_cancel_out() -> None:
    certificate = certify(Book({1: (4, 0), 2: (6, 0)}), {1: Told(acknowledged=5), 2: Told(acknowledged=5)})
    assert (certificate.counted, certificate.lost, certificate.doubled) == (10, 1, 1)
    assert certificate.verdict is Verdict.BROKEN


def test_unknown_outcomes_make_an_interval() -> None:
    told = {1: Told(acknowledged=5, unknown=2)}
    for likes, verdict in {4: "BROKEN", 5: "HOLDS WITHIN", 7: "HOLDS WITHIN", 8: "BROKEN"}.items():
        assert certify(Book({1: (likes, 0)}), told).sentence.startswith(verdict), likes


def test_an_acknowledged_like_missing_from_the_first_read_is_lost_even_when_it_turns_up_later() -> None:
    assert certify(Book({1: (4, 0)}, {1: (5, 0)}), {1: Told(acknowledged=5)}).lost == 1


def test_a_total_that_falls_while_it_is_persisted_is_a_loss_even_within_the_interval() -> None:
    certificate = certify(Book({1: (0, 6)}, {1: (5, 0)}), {1: Told(acknowledged=5, unknown=1)})
    assert (certificate.lost, certificate.verdict) == (1, Verdict.BROKEN)


def test_a_report_that_is_missing_proves_no_double() -> None:
    certificate = certify(Book({1: (9, 0)}), {1: Told(acknowledged=5)}, whole=False)
    assert certificate.doubled == 0


def test_likes_that_stay_pending_leave_it_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notary, "PERSIST_SECONDS", 0.05)
    certificate = certify(Book({1: (0, 5)}), {1: Told(acknowledged=5)})
    assert certificate.verdict is Verdict.UNDECIDED
    assert "5 likes were not persisted" in certificate.sentence


def test_a_deleted_post_and_a_service_that_is_away_leave_it_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notary, "READ_SECONDS", 0.05)
    assert "post 2 is gone" in certify(Book({1: (1, 0)}), {1: Told(acknowledged=1), 2: Told()}).sentence
    with pytest.raises(Away):
        Service("http://127.0.0.1:1").live([1])
    nobody = Service("http://127.0.0.1:1")
    draft = Certificate("run", 1, acknowledged=1)
    Notary(nobody, lambda _words: None).certify(draft, {1: Told(acknowledged=1)}, [1], whole=True)
    assert draft.verdict is Verdict.UNDECIDED


def test_a_run_without_a_like_certifies_nothing() -> None:
    assert certify(Book({1: (0, 0)}), {1: Told()}).verdict is Verdict.UNDECIDED


def test_the_worst_run_of_a_session_decides_its_exit_code() -> None:
    assert Verdict.worst([Verdict.HOLDS, Verdict.UNDECIDED]).value == 2
    assert Verdict.worst([Verdict.UNDECIDED, Verdict.BROKEN, Verdict.HOLDS]).value == 1


@pytest.mark.parametrize(
    ("status", "body", "error", "outcome"),
    [
        (202, b"", None, Outcome.ACKNOWLEDGED),
        (503, b'{"outcome": "not_applied"}', None, Outcome.NOT_APPLIED),
        (503, b'{"outcome": "unknown"}', None, Outcome.UNKNOWN),
        (503, b"<html>a proxy's own page</html>", None, Outcome.UNKNOWN),
        (503, b"[]", None, Outcome.UNKNOWN),
        (404, b"{}", None, Outcome.REFUSED),
        (408, b"{}", None, Outcome.UNKNOWN),
        (500, b"", None, Outcome.UNKNOWN),
        (0, None, ConnectionRefusedError(), Outcome.NOT_APPLIED),
        (0, None, ConnectionResetError(), Outcome.UNKNOWN),
        (0, None, TimeoutError(), Outcome.UNKNOWN),
    ],
)
def test_an_answer_is_taken_for_what_it_promises(
    status: int, body: bytes | None, error: BaseException | None, outcome: Outcome
) -> None:
    assert judge(status, body, error) is outcome


def test_a_like_in_flight_is_unknown_until_it_is_decided() -> None:
    spent: list[str] = []
    run = Run("run", [7], budget=2, on_spent=lambda: spent.append("spent"))
    first = run.send(7, lambda: Outcome.ACKNOWLEDGED)
    assert run.report()["likes"] == [[7, 0, 1, 0]]
    first.join()
    assert run.report()["likes"] == [[7, 1, 0, 0]]
    assert not run.over()
    run.send(7, lambda: Outcome.REFUSED).join()
    assert run.report()["likes"] == [[7, 1, 0, 1]]
    assert run.over()
    assert spent == ["spent"]


def test_a_total_lower_than_one_seen_before_is_noted() -> None:
    run, seen = Run("run", [1, 2], budget=None, on_spent=lambda: None), dict[int, int]()
    assert run.compare(seen, {1: 5, 2: 3}) == []
    assert run.compare(seen, {1: 4, 2: 3}) == [1]
    assert run.compare(seen, {1: 5, 2: 4}) == []
    assert run.report()["falls"] == 1


def test_posts_are_picked_by_zipfs_law() -> None:
    run = Run("run", [1, 2, 3, 4], budget=None, on_spent=lambda: None)
    picked = [run.pick() for _ in range(4000)]
    assert picked.count(1) > picked.count(2) > picked.count(4) > 0  # 48 %, 24 % and 12 % of 4,000
