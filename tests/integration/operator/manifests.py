"""The smallest resources that work, to be varied by the tests."""

from __future__ import annotations

AGENT = """
apiVersion: openclaw.io/v1alpha1
kind: Agent
metadata: {name: ada}
spec:
  role: coordinator
  model: {provider: openai-compatible, name: m, baseURL: "http://llm:8000/v1"}
"""

STORE = """
apiVersion: openclaw.io/v1alpha1
kind: MemoryStore
metadata: {name: mem}
spec:
  vector: {qdrant: {managed: {replicas: 1}}}
  backup: {destination: {s3: {bucket: backups}}}
"""

RESTORE = """
apiVersion: openclaw.io/v1alpha1
kind: MemoryRestore
metadata: {name: back}
spec: {storeRef: {name: mem}}
"""

SKILL = """
apiVersion: openclaw.io/v1alpha1
kind: Skill
metadata: {name: echo}
spec:
  version: 1.2.0
  source: {inline: {files: {scripts/main.py: "def say(ctx, input): return input\\n"}}}
  actions: [{name: say, description: says it, inputSchema: {type: object}}]
"""

FULL_AGENT = """
apiVersion: openclaw.io/v1alpha1
kind: Agent
metadata: {name: ada}
spec:
  role: coordinator
  model: {provider: openai-compatible, name: m, baseURL: "http://llm:8000/v1"}
  memory: {storeRef: {name: mem}}
  skills: [{name: echo, version: ^1.0.0}]
  workspace: {reclaimPolicy: Delete}
  gateway: {autoscaling: {}, ingress: {host: ada.example.org}}
"""
