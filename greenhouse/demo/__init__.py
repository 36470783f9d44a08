"""The demo: database, broker, simulated base, service and page from one command, no account.

Only this package starts simulators; everything it starts ends with it.
"""
