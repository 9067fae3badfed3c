"""A question, the plan that answers it, and the answer."""
