"""From the field to batches: collectors, the spool, the pipeline.

Messages, polls and posts come in; what is accepted lies durably in the spool and leaves as batches
for sinks it is handed (it knows no database).  May import devices and alerts only.
"""
