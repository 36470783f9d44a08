"""HTTP: routes, answers in JSON, CSV, Arrow and Parquet, the dashboard.

Reads storage, hands posted readings to ingest's inlet; keeps no state of its own.
"""
