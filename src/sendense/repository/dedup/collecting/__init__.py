"""Collecting garbage: what no point refers to any more is removed, and nothing else.

``docs/format.md``, "Collecting garbage", is what this follows; ``docs/garbage.md`` is for
operators.  ``plan`` decides, from facts alone; ``marking`` and ``surveying`` find the facts;
``copying``, ``removing`` and ``tidying`` carry a plan out, each in an order that may be
broken off anywhere; ``running`` is the whole, and the way in.
"""
