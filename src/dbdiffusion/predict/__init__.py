"""Composition: questions about one screen. May use every numpy room; never scvi."""

from dbdiffusion.predict._rectify import rectify

__all__ = ["rectify"]
