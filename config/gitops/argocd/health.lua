-- The health of every kind of metastore.io, for Argo CD: they share their
-- conditions. Ready, Reconciling and Stalled are as kstatus has them; Complete
-- and Failed end what is done once.
local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the operator has not seen this yet"}
end

local is = {}
for _, condition in ipairs(status.conditions) do
  is[condition.type] = condition
end
local function holds(name) return is[name] ~= nil and is[name].status == "True" end
local function health(word, name)
  local condition = is[name]
  if condition == nil then return {status = word, message = ""} end
  return {status = word, message = condition.reason .. ": " .. (condition.message or "")}
end

if holds("Failed") then return health("Degraded", "Failed") end
if holds("Complete") then return health("Healthy", "Complete") end
if holds("Stalled") then return health("Degraded", "Stalled") end
if obj.spec.paused or obj.spec.hibernated or obj.spec.suspend then return health("Suspended", "Ready") end
if is["Available"] ~= nil and is["Available"].status == "False" and not holds("Reconciling") then
  return health("Degraded", "Available")
end
if holds("Ready") then return health("Healthy", "Ready") end
return health("Progressing", "Ready")
