"""Takes away what the counting protocol rests on, one piece at a time, and demands that the suite notices.

`python -m tests.mutants [NAME …]` works on copies of the repository in a temporary folder. Exit 0: the copy as it is
passes, and every mutant fails.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("likes", "likesite", "tests", "manage.py", "pyproject.toml")
AT_ONCE = 2  # runs; each keeps a core busy
RUN_SECONDS = 240  # a deadline; a run takes five
END_SECONDS = 30  # a deadline; pytest ends its servers meanwhile
UNDER_WAY: set[subprocess.Popen[str]] = set()


class Rotten(Exception):
    """A mutant whose text is not in the product any more, or not once: it proves nothing until it is rewritten."""


@dataclass(frozen=True)
class Edit:
    """`old` stands once in `file`, and becomes `new`."""

    file: str
    old: str
    new: str

    def apply(self, folder: Path) -> None:
        path = folder / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise Rotten(f"{self.file} holds {self.old!r} {text.count(self.old)} times, not once")
        path.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True)
class Mutant:
    """The product without something, and the test that must then fail."""

    name: str
    test: str
    edits: Sequence[Edit]


def without(name: str, test: str, file: str, old: str, new: str, *more: Edit) -> Mutant:
    return Mutant(name, f"tests/{test}", (Edit(f"likes/{file}", old, new), *more))


GROUPS = "test_group_commit.py"
MUTANTS = (
    without(
        "the ledger check",
        "test_books.py::test_a_batch_is_added_once_however_often_it_is_applied",
        "ledger.py",
        "    return inserted == 1",
        "    return inserted >= 0",
    ),
    without(
        "the fold mark's check",
        "test_books.py::test_a_batch_that_was_folded_is_never_applied_again",
        "ledger.py",
        "        _refuse_folded(batch)  #",
        "        #",
    ),
    without(
        "the fold mark's check after the row is in",
        "test_books.py::test_a_batch_that_comes_while_its_row_is_folded_away_is_refused",
        "ledger.py",
        "        _limit_waiting()\n",
        "        _limit_waiting()\n        _refuse_folded(batch)\n",
        Edit("likes/ledger.py", "        _refuse_folded(batch)  #", "        #"),
    ),
    without(
        "a fold mark that never goes back",
        "test_books.py::test_the_mark_of_a_fold_never_goes_back",
        "books.py",
        "greatest(known.folded_until, excluded.folded_until)",
        "excluded.folded_until",
    ),
    without(
        "a fold that stops before the batch in flight",
        "test_books.py::test_no_fold_reaches_the_batch_in_flight",
        "tasks.py",
        'until = min(until, told["drained_at"] - books.CLOCK_STEP)',
        "pass",
    ),
    without(
        "the order of locks",
        "test_books.py::test_rows_are_locked_in_the_order_of_their_keys",
        "ledger.py",
        '.order_by("pk")',
        '.order_by("-pk")',
    ),
    without(
        "orphans",
        "test_books.py::test_likes_of_a_post_that_is_gone_are_kept_as_orphans",
        "ledger.py",
        "        _keep_orphans(batch, persisted)\n",
        "",
    ),
    without(
        "a save that leaves totals alone",
        "test_concurrency.py::test_saving_a_post_that_was_loaded_before_a_flush_keeps_its_likes",
        "models.py",
        'chosen - {"likes", "starting_likes"}',
        "chosen",
    ),
    without(
        "the ack's id check",
        "test_protocol.py::test_a_late_ack_leaves_the_next_batch_in_flight",
        "lua/ack.lua",
        "redis.call('HGET', KEYS[1], 'id') == ARGV[1]",
        "true",
    ),
    without(
        "the ack's gen check",
        "test_protocol.py::test_an_ack_does_not_put_back_a_total_that_was_adjusted",
        "lua/ack.lua",
        "ours and gen == ARGV[2]",
        "ours",
    ),
    without(
        "a base that expires again",
        "test_protocol.py::test_a_base_does_not_expire_while_likes_of_its_post_are_on_their_way",
        "lua/ack.lua",
        "pending and busy or idle",
        "busy",
    ),
    without(
        "a base that expires again on an older Redis",
        "test_protocol.py::test_a_base_expires_again_where_redis_cannot_set_many_at_once",
        "lua/ack.lua",
        "type(reply) == 'table' and reply.err",
        "false",
    ),
    without(
        "a base that stays while likes are pending",
        "test_protocol.py::test_a_base_does_not_expire_while_likes_of_its_post_are_on_their_way",
        "lua/ack.lua",
        "pending and busy or idle",
        "idle",
    ),
    without(
        "PERSIST of the base",
        "test_protocol.py::test_a_base_does_not_expire_while_likes_of_its_post_are_on_their_way",
        "lua/like.lua",
        "        call('PERSIST', KEYS[7 + count + i])\n",
        "",
    ),
    without(
        "a looked-up base that stays",
        "test_protocol.py::test_a_base_that_is_looked_up_while_likes_are_on_their_way_does_not_expire",
        "lua/totals.lua",
        "    if inflight or pending then",
        "    if false then",
    ),
    without(
        "the cold store's gen check",
        "test_protocol.py::test_a_base_from_before_an_adjustment_is_not_stored",
        "lua/totals.lua",
        "gen == ARGV[2] and batch",
        "batch",
    ),
    without(
        "the cold store's batch check",
        "test_protocol.py::test_a_base_from_beside_another_batch_is_not_stored",
        "lua/totals.lua",
        " and batch == ARGV[3]",
        "",
    ),
    without(
        "the cold store's absent-only",
        "test_protocol.py::test_a_base_does_not_replace_one_that_came_first",
        "lua/totals.lua",
        "if not base and found",
        "if found",
    ),
    without(
        "the cold store's less-what-is-in-flight",
        "test_protocol.py::test_a_batch_that_is_in_postgres_and_still_in_flight_is_shown_once",
        "counts.py",
        "persisted[post] - again * mine",
        "persisted[post]",
    ),
    without(
        "the cold store's look into the ledger",
        "test_protocol.py::test_a_batch_that_is_applied_while_its_post_is_read_is_shown_once",
        "counts.py",
        "1 if look.batch in applied else 0",
        "1",
    ),
    without(
        "the drain that takes what it reads",
        "test_protocol.py::test_a_drain_takes_what_is_there_and_leaves_what_comes_after",
        "lua/drain.lua",
        "redis.call('GETDEL', KEYS",
        "redis.call('GET', KEYS",
    ),
    without(
        "the atomic drain: read, then delete",
        "test_concurrency.py::test_writers_and_flushers_that_take_each_others_batches_count_exactly",
        "lua/drain.lua",
        "redis.call('GETDEL', KEYS",
        "redis.call('GET', KEYS",
        Edit(
            "likes/buffer.py",
            "        [reply], durable = self._durably([Call(DRAIN, keys, [new_id(), adopt, *posts])])\n",
            "        [reply], durable = self._durably([Call(DRAIN, keys, [new_id(), adopt, *posts])])\n"
            "        if reply[0] == 'drained':\n            self.client.delete(*keys[8:])\n",
        ),
    ),
    without(
        "the age of adoption",
        "test_protocol.py::test_a_young_batch_is_left_to_its_flusher",
        "lua/drain.lua",
        "age >= 0 and age < tonumber(ARGV[2])",
        "false",
    ),
    without(
        "adoption",
        "test_protocol.py::test_an_old_batch_is_adopted_as_it_was",
        "lua/drain.lua",
        "age >= 0 and age < tonumber(ARGV[2])",
        "true",
    ),
    without(
        "the age of the oldest like",
        "test_protocol.py::test_the_oldest_like_is_known_until_no_like_of_its_shard_is_waiting",
        "lua/drain.lua",
        "if redis.call('SCARD', KEYS[1]) == 0 then redis.call('DEL', KEYS[4]) end",
        "redis.call('DEL', KEYS[4])",
    ),
    without(
        "the barrier",
        "test_barrier.py::test_a_drain_that_may_not_be_on_disk_is_not_applied_and_ready_says_why",
        "tasks.py",
        "    if not batch.durable:",
        "    if False:",
    ),
    without(
        "the settle step",
        "test_counting.py::test_reset_and_delete_are_on_record",
        "counts.py",
        "if not pending or not door.settle(set(pending.values())):",
        "if not pending:",
    ),
    without(
        "the barrier of the settle step",
        "test_barrier.py::test_an_adjustment_is_settled_only_when_that_is_on_disk",
        "counts.py",
        "if not pending or not door.settle(set(pending.values())):",
        "if not pending or door.settle(set(pending.values())) is None:",
    ),
    without(
        "the settle step's gen",
        "test_protocol.py::test_a_base_from_before_an_adjustment_is_not_stored",
        "lua/settle.lua",
        "for i = 1, 2 do",
        "for i = 2, 2 do",
    ),
    without(
        "the look-up of a like's key",
        "test_idempotency.py::test_a_like_under_a_key_is_answered_the_same_and_counted_once",
        "lua/like.lua",
        "own_key and redis.pcall('GET', own_key)",
        "false",
    ),
    without(
        "the look-up of a bulk call's key before it is sent",
        "test_idempotency.py::test_a_bulk_call_under_a_key_is_answered_the_same_and_counted_once",
        "counts.py",
        "kept = buffer.kept_answers(key)",
        "kept = dict[int, str]()",
    ),
    without(
        "the look-up of a bulk call's key where it counts",
        "test_idempotency.py::test_two_bodies_under_one_key_at_once_do_not_share_an_answer",
        "lua/like.lua",
        "local kept = call('GET', KEYS[7])",
        "local kept = false",
    ),
    without(
        "the refusal of another body that comes at once",
        "test_idempotency.py::test_two_bodies_under_one_key_at_once_do_not_share_an_answer",
        "counts.py",
        "            _refuse_race(digest, kept.values())\n",
        "",
    ),
    without(
        "all or nothing under a key",
        "test_idempotency.py::test_under_a_key_one_cold_post_keeps_its_shard_from_counting",
        "lua/like.lua",
        "  if cold then return {false, answers} end\n",
        "",
    ),
    without(
        "one attempt for each command",
        "test_lost_replies.py::test_a_like_whose_reply_is_lost_is_unknown_and_counted_at_most_once",
        "wire.py",
        "retry=Retry(NoBackoff(), 0)",
        "retry=Retry(NoBackoff(), 10)",  # what `redis.Redis(host=…)` does by default
    ),
    without(
        "the audit's second look",
        "test_books.py::test_the_audit_looks_again_when_some_posts_left_dirty_while_others_came",
        "survey.py",
        "if len(counters) != dirty:",
        "if dirty > len(posts):",
    ),
    # The fast lane.
    without(
        "a total of its own for each like that goes with others",
        f"{GROUPS}::test_likes_of_a_group_are_answered_each_with_its_own_total_and_a_key_of_it_counts_once",
        "trips.py",
        "total - later if",
        "total if",
    ),
    without(
        "the word that an answer was given before",
        f"{GROUPS}::test_likes_of_a_group_are_answered_each_with_its_own_total_and_a_key_of_it_counts_once",
        "trips.py",
        "return Replayed(total)",
        "return total",
    ),
    without(
        "one trip for likes that come while another is under way",
        f"{GROUPS}::test_likes_of_a_group_are_answered_each_with_its_own_total_and_a_key_of_it_counts_once",
        "fastlane.py",
        "LIKES_A_TRIP = 1_000",
        "LIKES_A_TRIP = 1",
    ),
    without(
        "one sending of a trip",
        f"{GROUPS}::test_a_lost_reply_is_unknown_to_its_group_and_those_behind_it_were_never_sent",
        "wire.py",
        "await _async_round_trip(pool, commands)\n            except Unavailable as error:\n"
        "                commands = trips.throw(error)",
        "await _async_round_trip(pool, commands)\n            except Unavailable:\n"
        "                commands = trips.send(await _async_round_trip(pool, commands))",
    ),
    without(
        "the word that an outcome is unknown",
        f"{GROUPS}::test_a_lost_reply_is_unknown_to_its_group_and_those_behind_it_were_never_sent",
        "wire.py",
        'Unavailable("unknown", f"Redis did not answer',
        'Unavailable("not_applied", f"Redis did not answer',
    ),
    without(
        "the sparing of likes behind a trip that failed",
        f"{GROUPS}::test_a_lost_reply_is_unknown_to_its_group_and_those_behind_it_were_never_sent",
        "lane.py",
        "stranded, self._calls, self._waiting = self._waiting, [], []",
        "stranded = []",
    ),
    without(
        "the end of a connection that owes replies",
        "test_lost_replies.py::test_a_reply_that_comes_too_late_is_not_taken_for_the_answer_to_the_next_call",
        "wire.py",
        "        if not whole:",
        "        if False:",
    ),
    without(
        "a refusal that stays with its shard",
        f"{GROUPS}::test_a_shard_that_is_refused_touches_no_like_of_another",
        "trips.py",
        "            answers = repeat(reply) if",
        "            if isinstance(reply, Fault):\n                raise reply\n            answers = repeat(reply) if",
    ),
    without(
        "a fault that stays with its post",
        f"{GROUPS}::test_a_fault_at_one_post_touches_no_like_of_another",
        "lua/like.lua",
        "redis.pcall('INCRBY'",
        "call('INCRBY'",
    ),
    without(
        "the refusal of a counter that is none under the key of a call",
        "test_idempotency.py::test_under_a_key_a_counter_that_is_none_keeps_its_shard_from_counting",
        "lua/like.lua",
        "local pending = call('GET', KEYS[7 + i])",
        "local pending = false",
    ),
    without(
        "both guards against clients that are gone",
        f"{GROUPS}::test_a_client_that_hangs_up_takes_nobody_with_it",
        "fastlane.py",
        "            if not reply.done():",
        "            if True:",
        Edit(
            "likes/lane.py",
            "        except Exception:\n            log",
            "        except MemoryError:\n            log",
        ),
    ),
    without(
        "the bound of those who wait",
        "test_lane_limits.py::test_more_likes_than_may_wait_are_turned_away_at_once_and_those_that_wait_are_counted",
        "lane.py",
        "> self._most_waiting:",
        "> 2 * self._most_waiting:",
    ),
)


@dataclass(frozen=True)
class Run:
    """How a run of tests ended; `output` is what pytest said."""

    code: int
    seconds: float
    output: str

    @property
    def passed(self) -> bool:
        return self.code == 0

    def failed(self, test: str) -> bool:
        """Tell whether this test failed, and not only a fixture: a server that did not start says nothing of a mutant.

        pytest calls it an ERROR when a fixture fails. Beside the FAILED of its test it is the books, audited after it.
        """
        tests = re.compile(rf"^(FAILED|ERROR) {re.escape(test)}(?:\[| |$)", re.M).findall(self.output)
        others = len(re.findall("^ERROR ", self.output, re.M)) - tests.count("ERROR")
        return self.code == 1 and "FAILED" in tests and not others


def run(folder: Path, tests: Sequence[str]) -> Run:
    """Run tests in a copy of the repository, until the first that fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--show-capture=no", *tests]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    started = time.monotonic()
    child = subprocess.Popen(
        command, cwd=folder, env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    UNDER_WAY.add(child)
    try:
        output, _ = child.communicate(timeout=RUN_SECONDS)
    except subprocess.TimeoutExpired as error:
        end(child)
        return Run(-1, time.monotonic() - started, str(error))
    finally:
        UNDER_WAY.discard(child)
    return Run(child.returncode, time.monotonic() - started, output)


def end(child: subprocess.Popen[str]) -> None:
    """End a run: asked first, so that pytest ends its servers, which have sessions of their own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(child.pid, number)
            child.wait(END_SECONDS)
            return


def copy(folder: Path) -> Path:
    """Copy what the tests need of the repository."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


def judge_unmutated(mutants: Sequence[Mutant]) -> str:
    """Return what is wrong with the product as it is: its tests must pass, or their failing proves nothing."""
    with tempfile.TemporaryDirectory() as folder:
        ended = run(copy(Path(folder)), sorted({mutant.test for mutant in mutants}))
        return told("(nothing)", ended, "passed" if ended.passed else "FAILED", good="passed")


def judge(mutant: Mutant) -> str:
    """Return what is wrong with the suite: its test must fail when the product is the mutant."""
    with tempfile.TemporaryDirectory() as folder:
        mutated = copy(Path(folder))
        try:
            for edit in mutant.edits:
                edit.apply(mutated)
        except Rotten as error:
            print(f"ROTTEN    {mutant.name}: {error}", flush=True)
            return str(error)
        ended = run(mutated, [mutant.test])
        verdict = "SURVIVES" if ended.passed else "killed" if ended.failed(mutant.test) else "BROKEN"
        return told(mutant.name, ended, verdict, good="killed")


def told(name: str, ended: Run, verdict: str, good: str) -> str:
    """Print one line of the table; return what pytest said where the verdict is not the good one."""
    print(f"{verdict:9} {ended.seconds:5.1f} s  without {name}", flush=True)
    return "" if verdict == good else f"{verdict}: without {name}\n{ended.output[-4000:]}"


def results(tasks: Sequence[Callable[[], str]]) -> list[str]:
    """Return what each task returns. When we are told to end, every run under way is ended first."""
    pool = ThreadPoolExecutor(AT_ONCE)
    futures = [pool.submit(task) for task in tasks]
    try:
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in futures):
            for child in tuple(UNDER_WAY):
                end(child)
            time.sleep(0.1)  # a run that was about to start shows up by the next look


def main(names: Sequence[str]) -> int:
    """Try every mutant, or those named; return how many did not end as they should."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    if not chosen:
        print("no such mutant; there are:", *sorted(mutant.name for mutant in MUTANTS), sep="\n  ")
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background jobs with INT ignored
        signal.signal(number, signal.default_int_handler)
    wrong = [output for output in results([partial(judge_unmutated, chosen), *(partial(judge, one) for one in chosen)])
             if output]  # fmt: skip
    for output in wrong:
        print("-" * 80, output, sep="\n")
    print(f"{len(chosen)} mutants, {len(wrong)} problems")
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
