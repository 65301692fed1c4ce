"""The two gRPC listeners: enrolment and stream."""
