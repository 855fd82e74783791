"""PostgreSQL: tables (`tables`), their migration (`migration`), the sink's store (`writer`) and what people ask of it
(`summary`). Nothing here reads Kafka or knows a model."""
