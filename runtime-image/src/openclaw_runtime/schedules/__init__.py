"""What an agent does at set times: prompts and skill calls, each slot once whichever replica runs it."""
