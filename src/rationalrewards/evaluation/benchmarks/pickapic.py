"""Pick-a-Pic's validation and test splits: what the author of a request picked (``preferences.pickapic``)."""

from rationalrewards.evaluation.benchmarks.base import Benchmark, from_files
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.evaluation.published import with_ties
from rationalrewards.preferences.pickapic import FORMAT

BENCHMARK = Benchmark(
    protocol=Protocol(
        name="pickapic",
        labels=("A", "B", "tie"),
        right="one of three: the first, the second, a tie",
        ties="equal scores; the authors chose a threshold on the validation split, which our three_way does "
        "by cross-fitting",
        orders="as given",
        grouping="none; intervals take pairs of one request together",
        published=with_ties,
    ),
    open=from_files("pickapic", lambda where: FORMAT, {"model_a": "model_0", "model_b": "model_1"}),
)
