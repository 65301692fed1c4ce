"""Between wire messages and plain values. Nothing outside this package and the two gateways touches protobuf."""
