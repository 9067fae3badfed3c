"""What other products send on their own account: LiteLLM's callback, MLflow's webhooks, Langfuse's ingestion API."""
