"""Programs run by hand or nightly, not shipped: benchmarks, soak, fuzz."""
