-- From now on plan and report only. Git says otherwise? Then the next sync turns it back.
obj.spec.mode = "Recommend"
return obj
