"""The LoLLMs gateway: Socket.IO programs written for LoLLMs servers talk to the module through it."""
