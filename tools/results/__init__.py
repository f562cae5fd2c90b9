"""The experiments behind docs/results.md: train, evaluate, keep the figures, and write the page from them.

``python -m tools.results runs DATA`` trains and measures whatever is not stored yet, and keeps the figures of each run
as JSON in ``docs/results``. It can be stopped at any time: called again, it goes on where it was. ``--only
'random-*-0'`` takes some of the runs, ``--list`` says what each still needs. ``python -m tools.results masks DATA``
draws the masks of trained networks; ``python -m tools.results page`` writes ``docs/results.md`` from what is stored.
"""
