"""Device frames: the few bytes that a LoRaWAN device sends, one maker a file.

Bytes and a port in, samples out.  What brings them (a network server's JSON) is read one floor up,
in `devices.codecs.chirpstack` and `devices.codecs.tts`.
"""
