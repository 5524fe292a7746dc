"""Composition: questions about one screen. May use every numpy room; never scvi."""

from dbdiffusion.predict._compare import Comparison, compare
from dbdiffusion.predict._rectify import rectify

__all__ = ["Comparison", "compare", "rectify"]
