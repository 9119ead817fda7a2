"""A month of the exporter's life in minutes: `python -m tools.soak`, or `make soak`.

The real exporter polls a hostile API over loopback sockets and is scraped throughout, in an event loop whose
time stands still while anybody works and jumps when nobody does. So a slow machine makes a run longer, and
changes nothing else in it but the order of what happens at once.

    virtual → the event loop and the clock
    fleet, schedule, faults, api → what the API says, and how it fails, when
    pages, clients → the scrapes, and how they are read
    referee, watch, ledger, resources → what must hold
    run joins them; chart, document → docs/soak.md
"""
