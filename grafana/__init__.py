"""The Grafana dashboards as code; `python -m grafana.generate` writes the JSON that Grafana reads.

    fleet, model, exporter → one module a dashboard: what it asks and how it shows it
    looks                  → text and colour of every status, the one place for both
    freshness              → whether the data can be trusted, on two dashboards
    promql                 → expressions that several panels share
    panels, board, layout  → the house's panels, the frame around them, the grid they stand on

Nothing here is needed to run the exporter. Every panel asks the datasource that the variable `datasource`
names, and says in its description what it shows and what to make of it.
"""
