"""The only package that knows Cohere's API.

`wire` reads its JSON, `progress` finds the latest training metrics, `limits` counts calls, `transport` sends
one request and survives what comes back, `client` walks the pages of the two endpoints.
"""
