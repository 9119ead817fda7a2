"""Coverage-guided fuzzing of what reads foreign bytes: `make fuzz`, or `python -m tools.fuzz [TARGET ...]`.

`targets` says what must hold for any input at all, `judge` how that is told, `mutation` how JSON is changed
so that it stays JSON; `engine` hands it to atheris. `corpus` holds a folder for each target: seeds, and the
inputs that once broke something. The tests replay it through the same targets, without atheris.
"""
