"""A world that means the exporter harm: an API that fails in every way, and the exporter beside it.

`server` plays the faults of `faults` on raw sockets; `stage` runs the exporter against it; `modes` is the
table of what fails how, which docs/failure-modes.md prints and the tests hold to what happens.
"""
