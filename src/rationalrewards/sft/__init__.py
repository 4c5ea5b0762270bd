"""Training the student: rationales in, a critic out (phase 4 of PARROT); and the scalar baseline.

``config`` says what is asked for, ``data`` checks what it is trained on, ``examples`` turns it into batches,
``model`` prepares the student, ``trainer`` runs, ``measure`` judges held-out pairs with the model under
training, ``export`` leaves a checkpoint that explains itself. ``train.train(config)`` is all of it. The
scalar reward model, ``scalar``, goes the same way.
"""
