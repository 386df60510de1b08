"""The processes with users, as the organiser reaches them: Locust's workers, or its own process where it has none."""

from locust.runners import STATE_MISSING, MasterRunner, Runner

from likesite.loadtest.participant import CLOSE, RUN


class Nodes:
    """All of a session's."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def alive(self) -> set[str]:
        """Their names; a process that has users itself is its own only one."""
        if not isinstance(self._runner, MasterRunner):
            return {"local"}
        return {node.id for node in self._runner.clients.all} - self.dead()

    def dead(self) -> set[str]:
        """Workers whose heartbeat has stopped."""
        if not isinstance(self._runner, MasterRunner):
            return set()
        return {node.id for node in self._runner.clients.all if node.state == STATE_MISSING}

    def begin(self, node: str, run: str, posts: list[int], budget: int | None) -> None:
        """Tell one of a run. What Locust sends it later arrives later."""
        self._runner.send_message(RUN, {"run": run, "posts": posts, "budget": budget}, client_id=node)

    def close(self, node: str, run: str) -> None:
        """Ask one for its report, which it gives once its likes in flight are finished."""
        self._runner.send_message(CLOSE, {"run": run}, client_id=node)
