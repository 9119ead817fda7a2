"""The web side: a server that keeps slow clients cheap, the views it serves, and who may see them.

Nothing here knows where a snapshot comes from or what the API is: `views.create_views` and
`server.WebServer` get everything they serve handed in.
"""
