"""Learns how sure answers are: scores of pairs that no model had learnt from, and what they say."""
