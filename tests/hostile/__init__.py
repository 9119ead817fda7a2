"""A world that means the exporter harm: an API that fails in every way, and the exporter beside it.

`server` plays the faults of `faults` on raw sockets; `stage` runs the exporter against it; `modes`,
`oddities` and `scenarios` are the tables that docs/failure-modes.md prints and the tests hold to what
happens.
"""
