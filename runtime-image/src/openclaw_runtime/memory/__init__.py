"""What an agent remembers: records (SQL), vectors (Qdrant), sessions, and Markdown files a person can read."""
