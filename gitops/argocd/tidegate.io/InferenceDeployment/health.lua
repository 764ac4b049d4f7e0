-- Health of an InferenceDeployment, by the conditions of kstatus (Ready, Reconciling, Stalled).
-- A missed SLO or a fallback is a matter for alerts, not for a sync: the object is healthy and says so in its message.
local hs = {status = "Progressing", message = "Waiting for the operator"}

local status = obj.status
if status == nil or status.conditions == nil then
  return hs
end
if status.observedGeneration ~= nil and obj.metadata.generation ~= nil
    and status.observedGeneration ~= obj.metadata.generation then
  hs.message = "The operator has not seen this generation yet"
  return hs
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end

local function holds(kind, value)
  return conditions[kind] ~= nil and conditions[kind].status == value
end

if holds("Stalled", "True") then
  return {status = "Degraded", message = conditions["Stalled"].message}
end
if holds("Paused", "True") then
  return {status = "Suspended", message = conditions["Paused"].message}
end
-- Before Ready: a first start has no ready replica either, and a sync that waits must not fail over it.
if holds("Reconciling", "True") then
  return {status = "Progressing", message = conditions["Reconciling"].message}
end
if holds("Ready", "False") then
  return {status = "Degraded", message = conditions["Ready"].message}
end
if holds("Ready", "True") then
  local message = conditions["Ready"].message
  if holds("SLOMet", "False") then
    message = conditions["SLOMet"].message
  elseif holds("FallbackActive", "True") then
    message = conditions["FallbackActive"].message
  end
  return {status = "Healthy", message = message}
end
return hs
