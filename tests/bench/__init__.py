"""What the operator costs, measured from outside: its process, the audit log, and a watch of our own."""
