"""`AcceleratorClass`: a kind of accelerator, its price, and how many there are."""

from typing import Annotated

from pydantic import Field

from tidegate.api.fields import WITHOUT_NULLS, ApiModel, DecimalString

LABEL_KEY_PATTERN = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"

LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE_PATTERN)]


class AcceleratorClassSpec(ApiModel):
    """A kind of accelerator: where it is found, what it costs, how many may be used."""

    resource_name: Annotated[
        str,
        Field(
            min_length=1, max_length=253, pattern=LABEL_KEY_PATTERN, description="Extended resource that pods request."
        ),
    ] = "nvidia.com/gpu"
    node_selector: Annotated[
        dict[str, LabelValue],
        Field(
            max_length=16,
            description="Labels of the nodes that have it; also set as nodeSelector on pods of managed tiers.",
        ),
        WITHOUT_NULLS,
    ] = Field(default_factory=dict)
    price_per_hour: Annotated[
        Annotated[str, DecimalString(what="pricePerHour", at_least="0", example="3.00")],
        Field(description="Price of one accelerator per hour, in `currency`."),
    ]
    currency: Annotated[
        str,
        Field(
            min_length=3,
            max_length=3,
            pattern="^[A-Z]{3}$",
            description="ISO 4217 code. Use the same in all classes: prices are not converted.",
        ),
    ] = "USD"
    capacity: Annotated[
        int | None,
        Field(
            ge=0, le=1_000_000, description="Accelerators that Tidegate may use at most. Absent: what the nodes offer."
        ),
    ] = None
    memory_gi_b: Annotated[
        int | None,
        Field(
            alias="memoryGiB", ge=1, le=4096, description="Memory of one accelerator. Absent: from the built-in table."
        ),
    ] = None
    board_power_watts: Annotated[
        int | None,
        Field(ge=1, le=20_000, description="Board power of one accelerator. Absent: from the built-in table."),
    ] = None
