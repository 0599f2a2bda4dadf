-- Health of a MemoryStore for Argo CD: https://argo-cd.readthedocs.io/en/stable/operator-manual/health/
-- Lua 5.1 without the standard libraries, as Argo CD runs it.
local hs = {}

if obj.metadata.deletionTimestamp ~= nil then
  hs.status = "Progressing"
  hs.message = "being deleted"
  for _, condition in ipairs((obj.status or {}).conditions or {}) do
    if condition.reason == "LastBackupFailed" then
      hs.status = "Degraded"
      hs.message = condition.reason .. ": " .. condition.message
    end
  end
  return hs
end

local status = obj.status or {}
if status.observedGeneration == nil then
  hs.status = "Progressing"
  hs.message = "waiting for the operator to see it"
  return hs
end
if status.observedGeneration < obj.metadata.generation then
  hs.status = "Progressing"
  hs.message = "waiting for the operator to see the last change"
  return hs
end

for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    hs.message = condition.message
    if condition.status == "True" then
      hs.status = "Healthy"
      if status.qdrantReady ~= nil then
        hs.message = status.qdrantReady .. " Qdrant nodes are ready"
      end
    elseif condition.status == "Unknown" or condition.reason == "Progressing" then
      hs.status = "Progressing"
    else
      hs.status = "Degraded"
      hs.message = condition.reason .. ": " .. condition.message
    end
    return hs
  end
end

hs.status = "Progressing"
hs.message = "waiting for the operator to report"
return hs
