"""HPDv3's test split: pairs whose first image people preferred (``preferences.hpdv3`` has the schema)."""

from rationalrewards.evaluation.benchmarks.base import Benchmark, from_files
from rationalrewards.evaluation.protocol import Protocol
from rationalrewards.evaluation.published import as_given
from rationalrewards.preferences.hpdv3 import FORMAT

BENCHMARK = Benchmark(
    protocol=Protocol(
        name="hpdv3",
        labels=("A",),
        right="the preferred image has the strictly higher score",
        ties="there are none among the labels; equal scores are wrong",
        orders="as given",
        grouping="none; intervals take pairs of one request together",
        published=as_given,
        notes="The preferred image is always the first: a critic that always answers A is right everywhere "
        "in the order given. Read the mean over both orders.",
    ),
    open=from_files("hpdv3", lambda where: FORMAT, {"model_a": "model1", "model_b": "model2"}),
)
