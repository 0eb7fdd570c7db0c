"""The compute backend on the Golem network: a requestor on yapapi, over a yagna daemon wherever it runs."""

import warnings

with warnings.catch_warnings():
    # yapapi asks setuptools for its own version, in a way that setuptools warns of; every later import finds it loaded.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
    import yapapi  # noqa: F401

from oracle.compute.golem.backend import GolemBackend
from oracle.compute.golem.connection import check_connection
from oracle.compute.golem.terms import GolemTerms, Image, read_images

__all__ = ["GolemBackend", "GolemTerms", "Image", "check_connection", "read_images"]
