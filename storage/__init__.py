"""All SQL: migrations, editions, the registry, readings, roll-ups, dead letters and gaps.

Batches and registries come in, rows come out as values of the vocabulary.  May import devices and
alerts only; knows nothing of ingest or of HTTP.
"""
