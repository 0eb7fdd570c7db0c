"""The Golem network on one machine."""
