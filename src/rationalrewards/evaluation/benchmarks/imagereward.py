"""ImageReward's test split: every two images of a ranking (``preferences.imagereward`` has the schema)."""

from rationalrewards.evaluation.benchmarks.base import Benchmark, from_files
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.evaluation.published import as_given
from rationalrewards.preferences.imagereward import FORMAT

_ABOUT = {"human_a": "overall_rating_a", "human_b": "overall_rating_b", "subset": "classification"}

BENCHMARK = Benchmark(
    protocol=Protocol(
        name="imagereward",
        labels=("A", "B", "tie"),
        right="of two images with different ranks the better one has the strictly higher score",
        ties="pairs of one rank are left out of the published figure and count in three_way and half_credit",
        orders="as given",
        grouping="all pairs of one ranking depend on each other; intervals resample requests",
        published=as_given,
    ),
    open=from_files("imagereward", lambda where: FORMAT, _ABOUT),
)
