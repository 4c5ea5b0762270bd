"""The critic as a reward for other people's trainers: ``flow_grpo``, ``flow_factory`` and ``verl_omni``.

None of the three can leave a sample out of its statistics, and in each of them a NaN spreads to the whole
group and from there to the weights, or stops the run. So a failed critique gets the number that changes least
where the trainer shows its neighbours, is counted, and beyond a budget stops the run. It is never 0.
"""
