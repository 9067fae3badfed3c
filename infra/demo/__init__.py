"""The simulated LLM platform: five modules that tell a hub what happens, with known incidents in it."""
