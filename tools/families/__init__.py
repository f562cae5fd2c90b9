"""What docs/families.md states: which networks and layers are unrolled, exported, verified and compiled.

``python -m tools.families measure`` measures what is not stored yet, each network in a process of its own with a limit
of time and of memory, and keeps the figures as one JSON file a network in ``docs/families``. It can be stopped at any
time: called again, it goes on where it was. ``--only 'timm/*'`` takes some, ``--quick`` only unrolls and compares in
PyTorch, ``--again`` measures anew, ``--failed`` only what had failed, ``list`` says what is missing. ``python -m
tools.families page`` writes ``docs/families.md`` from what is stored; what was not measured is a dash there.
"""
