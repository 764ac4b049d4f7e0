"""
The custom resources: what a user may write, and what it means.

Question: is this manifest allowed, and what does it ask for?
Enters:   plain JSON of an InferenceDeployment or AcceleratorClass. Leaves: domain specs, or a SpecError that names
          field, value and what is allowed; the CRDs' YAML and the reference page, generated from the same models.
May import: actuate, settings, ports, domain, units, errors; pydantic and YAML live here.
"""
