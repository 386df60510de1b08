"""Load shapes: how many users there are at each moment of a run. To choose from in the web UI, or with --shape."""

import time
from abc import abstractmethod
from typing import Any

from locust import LoadTestShape

SPAWN_RATE = 100
"""Users a second: the shape says how many there are, so the step to that number should take no time of its own."""


class Curve(LoadTestShape):
    """A share of the peak for each moment of a run."""

    abstract = True
    use_common_options = True
    """The shapes read users and run time themselves; without this Locust would warn that it ignores them."""
    seconds = 60
    runner: Any = None
    """Set by Locust before the first tick."""

    @abstractmethod
    def share(self, moment: float) -> float:
        """The share of the peak, 0 to 1, at a moment of the run, 0 to 1."""

    def tick(self) -> tuple[int, float] | None:
        """Called by Locust every second; None ends the run."""
        options = self.runner.environment.parsed_options
        moment = (time.perf_counter() - self.start_time) / (options.shape_seconds or options.run_time or self.seconds)
        if moment >= 1:
            return None
        return max(1, round(self.share(moment) * (options.peak or options.num_users))), SPAWN_RATE


class Ramp(Curve):
    """Up to the peak in a straight line over four fifths of the time, then on the peak: where does it bend?"""

    seconds = 120

    def share(self, moment: float) -> float:
        return min(1.0, moment / 0.8)


class Spike(Curve):
    """A tenth of the peak, the whole of it at once for a fifth of the time, and back: a post goes viral."""

    def share(self, moment: float) -> float:
        return 1.0 if 0.4 <= moment < 0.6 else 0.1


class Soak(Curve):
    """The peak for a long time: what leaks, what drifts?"""

    seconds = 1800

    def share(self, moment: float) -> float:
        return 1.0
