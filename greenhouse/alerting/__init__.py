"""Alerts at work: readings come in, the engine judges, the book remembers, the database keeps.

Shells around the pure cores of `alerts`; started by the service.  May import every room but itself.
"""
