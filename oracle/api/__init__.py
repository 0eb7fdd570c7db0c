"""The REST API: what is known of models, providers, requests and results, and the page beside it."""
