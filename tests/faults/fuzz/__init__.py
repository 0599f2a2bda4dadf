"""Random changes to good resources: the operator follows or says why not, and undoing a change undoes everything."""
