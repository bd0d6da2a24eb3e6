"""Optimizers, schedules, and steps that are not taken."""
