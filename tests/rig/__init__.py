"""The test rig: real servers that a test may stop, kill, cut off and start again.

What `scripts/services`, the fixtures and the benchmarks share.  `root`, `process`, `database`,
`broker` and `shared` need the standard library only, so that they run before anything is installed.
"""
