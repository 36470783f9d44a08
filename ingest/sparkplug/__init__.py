"""Sparkplug B sessions: between the MQTT collector and the spool.

Raw messages flow in, messages that stand on their own flow out, each metric with its name.  What
decides (`session`, `completion`) is pure; it may import `devices` and nothing that waits.
"""
