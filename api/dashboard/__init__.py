"""Pages for operators: server-rendered, alive through one small module, nothing from elsewhere."""
