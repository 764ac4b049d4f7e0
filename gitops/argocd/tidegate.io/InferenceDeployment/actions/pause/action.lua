-- Hold what runs: the operator goes on planning and reporting, and touches nothing.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["tidegate.io/paused"] = "true"
return obj
