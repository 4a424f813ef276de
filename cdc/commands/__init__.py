"""What the commands do, one file a verb; `cdc.cli` gives them their arguments and whatever is a sink's."""
