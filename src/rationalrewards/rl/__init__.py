"""Reinforcement learning of flow-matching generators with a reward that can explain itself, and can fail.

``nft`` holds the losses and the advantages as pure functions, ``aspects`` turns critiques into rewards,
``policies`` makes one thing of every family of generators, ``sampling`` draws from it, and ``lora`` keeps the
trained and the sampling weights beside each other in one network.

The loop: ``material`` says what is asked for, ``rollout`` draws it, ``rewards`` has it judged meanwhile,
``scoring`` compares, ``step`` learns, ``watch`` measures, ``state`` keeps; ``ranks`` shares it all out.
``train.train(config, ...)`` is all of it.
"""
