"""What a skill call costs, at each level and in each language, beside a Job per call and a bare process."""
