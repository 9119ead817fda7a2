"""When the API is asked for what, and when data is stale; HTTP and formats are unknown here."""
