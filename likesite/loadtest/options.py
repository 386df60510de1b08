"""What can be said about a run, on the command line and in the fields of the web UI."""

import os
from typing import Any

from locust.argument_parser import LocustArgumentParser

MAX_POSTS = 1000


def add(parser: LocustArgumentParser) -> None:
    """Add the options, and the defaults that make a bare `locust` useful here."""
    host = f"http://127.0.0.1:{os.environ.get('PORT', '8000')}"
    # The picker is how Locust's web UI lets people choose a load shape.
    parser.set_defaults(host=host, num_users=10, spawn_rate=10, class_picker=True)
    parser.add_argument("--likes", type=int, default=0, help="End the run after so many likes; 0: when it is stopped")
    parser.add_argument("--posts", type=int, default=50, help="Posts made for the run, liked by Zipf's law")
    parser.add_argument("--keyed", type=float, default=0.5, help="Share of likes with an Idempotency-Key, 0 to 1")
    parser.add_argument("--pause", type=float, default=0.1, help="Seconds a user rests after a like")
    parser.add_argument("--peak", type=int, default=0, help="Users at the top of a load shape; 0: the number of users")
    parser.add_argument("--shape-seconds", type=int, default=0, help="Length of a load shape; 0: its own")
    shapes, why = ["Ramp", "Spike", "Soak"], "Load shape of a run without web UI, which has a field of its own for it"
    parser.add_argument("--shape", choices=shapes, help=why, include_in_web_ui=False)


def check(options: Any) -> None:
    """Refuse what no run can be made of: the web UI hands over whatever was typed. Raises ValueError, by name."""
    if not 1 <= options.posts <= MAX_POSTS:
        raise ValueError(f"posts: must be 1 to {MAX_POSTS}")
    if not 0 <= options.keyed <= 1:
        raise ValueError("keyed: must be 0 to 1")
    for name in ("likes", "pause", "peak", "shape_seconds"):
        if not getattr(options, name) >= 0:
            raise ValueError(f"{name}: must not be negative")
