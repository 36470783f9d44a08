"""MQTT collectors: messages come off a broker, go into the inlet, and are then acknowledged.

`collector` is the shell that lives as long as the service; `mqtt5` and `mqtt311` are one
connection each, behind the contract of `connection`.  May import devices and ingest only.
"""
