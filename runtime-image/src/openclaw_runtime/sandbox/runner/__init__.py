"""What runs inside a sandbox pod: `python -m openclaw_runtime.sandbox.runner`.

It accepts exactly one signed call, runs it in a confined child process that was forked and warmed before the pod
turned ready, and exits after the answer.
"""
