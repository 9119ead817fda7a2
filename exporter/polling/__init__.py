"""When the API is asked for what, and how old an answer may grow; HTTP and formats are unknown here."""
