"""The only package that knows Cohere's API: its endpoints, its JSON, and the way there."""
