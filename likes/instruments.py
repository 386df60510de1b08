"""The measures that a web process keeps of itself, for /metrics; knows no server."""

from prometheus_client import Counter, Gauge

UNKNOWN_OUTCOMES = Counter("likesite_unknown_outcomes", "Answers 503 whose outcome could not be told.")
# livesum: over the web processes that live; what a killed one had open is closed.
OPEN_STREAMS = Gauge("likesite_open_streams", "Streams of /events that are open now.", multiprocess_mode="livesum")
