"""The other servers of ``make bench-api``. They run in ``.venv-peers`` and import nothing of the oracle."""
