"""How agents talk to each other: requests, broadcasts and answers, in one process or over Redis Streams."""
