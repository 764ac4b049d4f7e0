-- What a person can do from the Argo CD page of an InferenceDeployment.
local paused = obj.metadata.annotations ~= nil and obj.metadata.annotations["tidegate.io/paused"] == "true"
return {
  ["pause"] = {disabled = paused},
  ["resume"] = {disabled = not paused},
  ["recommend-only"] = {disabled = obj.spec.mode == "Recommend"},
}
