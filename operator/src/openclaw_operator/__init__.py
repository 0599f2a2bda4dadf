"""OpenClaw Operator: Agent, Skill and MemoryStore resources become running agents."""
