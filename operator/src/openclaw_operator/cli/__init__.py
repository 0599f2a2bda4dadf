"""What a person runs against a cluster: `openclaw-operator diff` and `doctor`. Nothing of theirs is changed."""
