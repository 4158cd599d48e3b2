"""trainer: two-stream networks trained, evaluated and fused from a flowprep corpus.

The command `trainer` (trainer.cli) is the way in; the modules below it are usable on their own.
"""
