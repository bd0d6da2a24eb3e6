"""Answers a query from an open index: candidates, exact scores, certificate."""
