"""What can go wrong between the operator and the API server, done on purpose."""
