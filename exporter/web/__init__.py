"""The web side: pages, negotiation, and the server that keeps slow clients cheap.

Nothing here knows where a snapshot comes from or what the API is: `pages.create_app` and
`server.WebServer` get everything they serve handed in.
"""
