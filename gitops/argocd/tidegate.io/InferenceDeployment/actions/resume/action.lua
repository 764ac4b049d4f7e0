-- Act again.
if obj.metadata.annotations ~= nil then
  obj.metadata.annotations["tidegate.io/paused"] = nil
end
return obj
