"""The one truth about requests: a SQLite file whose status column is the queue."""

from oracle.store.books import ModelBooks, ProviderBooks
from oracle.store.reading import SqliteReads
from oracle.store.store import Binding, SqliteRequestStore
from oracle.store.wishes import DirectoryWishes

__all__ = ["Binding", "DirectoryWishes", "ModelBooks", "ProviderBooks", "SqliteReads", "SqliteRequestStore"]
