"""What a scrape and a poll cost, beside what one would take instead: `make bench`.

Contestants run side by side in one run and take turns; a figure is the median of its rounds and stands with
the least and the greatest. Everything listens on the loopback and ends with the run.

    fleets → api, a process that answers the exporter's polls from prepared bytes
    processes, machine → starts and measures the exporter and its peers from outside
    load → drives them; inside → polls in a process of its own, to see the event loop
    throughput, lone, during_poll, poll_cost, latency, memory, start → one benchmark each
    results → figures, ratios and goals; page, chart → docs/benchmarks.md
"""
