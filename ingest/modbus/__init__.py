"""Modbus buses: what is asked when, what is believed of the answers, and over which wire.

Profiles come in, polls go to the inlet as raw registers.  The pure cores decide (plan, schedule,
reply checks, late replies, breaker); `transport` and `bus` are the shells.  pymodbus stays behind
`framing` and `transport`.
"""
