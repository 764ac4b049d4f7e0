-- Hold what runs: nothing is planned or scaled.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["tidegate.io/paused"] = "true"
return obj
